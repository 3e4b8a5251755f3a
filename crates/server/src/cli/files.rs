//! Flags that say how files are served.

use anyhow::{Result, bail};
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use sluicegate::file::Links;
use sluicegate_http::Coding;

use crate::config::parse::{self, PathBytes, Prefix};
use crate::files::{CacheControl, Options};

#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
pub(super) struct FileFlags {
    /// A directory's own page; may be given several times, the first that is
    /// there is served.
    #[arg(long, value_name = "NAME", default_value = "index.html", value_parser = parse::name)]
    index: Vec<String>,
    /// Show the contents of directories that have no page of their own.
    #[arg(long)]
    listing: bool,
    /// File beneath DIR for paths that lead to nothing, answered with 200: the
    /// page of a single-page application.
    #[arg(long, value_name = "PATH", value_parser = parse::path)]
    fallback: Option<PathBytes>,
    /// File beneath DIR in place of our page for an error, such as
    /// 404=errors/404.html; may be given several times.
    #[arg(long = "error-page", value_name = "STATUS=PATH", value_parser = error_page)]
    error_pages: Vec<(u16, PathBytes)>,
    /// Cache-Control of files; of those beneath a prefix when it begins with
    /// one, such as "/assets/=max-age=31536000, immutable". May be given
    /// several times: the longest prefix counts.
    #[arg(long, value_name = "[/PREFIX=]VALUE", value_parser = cache_control)]
    cache_control: Vec<CacheControl>,
    /// Symbolic links that are followed: those that lead to something beneath
    /// DIR, none, or all.
    #[arg(long, value_enum, default_value_t = Symlinks::Inside)]
    symlinks: Symlinks,
    /// Serve names that begin with a dot, too (.well-known always is).
    #[arg(long)]
    dotfiles: bool,
    /// Compressed neighbours (page.html.br) that are served to clients that
    /// take them, the most wanted first.
    #[arg(
        long,
        value_enum,
        value_name = "CODINGS",
        value_delimiter = ',',
        default_value = "br,zstd,gzip"
    )]
    precompressed: Vec<CodingName>,
    /// Send copies of the files, or of those beneath a prefix, since somebody
    /// edits them in place while they are served: what was sent then never
    /// changes on its way. May be given several times.
    #[arg(long, value_name = "/PREFIX", num_args = 0..=1, require_equals = true,
          default_missing_value = "/", value_parser = parse::prefix)]
    in_place_edits: Vec<Prefix>,
    /// Files of at most this size are kept in memory, ready to be sent: bytes,
    /// or with a unit (4096, 24KiB).
    #[arg(long, value_name = "SIZE", value_parser = parse::in_memory, default_value = "24KiB")]
    in_memory: ByteSize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Symlinks {
    Inside,
    Never,
    Anywhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CodingName {
    Br,
    Zstd,
    Gzip,
    None,
}

fn error_page(text: &str) -> Result<(u16, PathBytes), String> {
    let expected = || "expected a status from 400 to 599, `=`, and a file beneath DIR".to_owned();
    let (status, file) = text.split_once('=').ok_or_else(expected)?;
    Ok((parse::error_status(status).ok_or_else(expected)?, parse::path(file)?))
}

fn cache_control(text: &str) -> Result<CacheControl, String> {
    let (prefix, value) = match text.split_once('=') {
        Some((path, value)) if path.starts_with('/') => (parse::prefix(path)?, value),
        _ if text.starts_with('/') => return Err("expected `=` and a value after it".to_owned()),
        _ => (Prefix(Vec::new()), text),
    };
    parse::cache_control(prefix, value)
}

impl FileFlags {
    /// What the flags say together.
    pub(super) fn options(self) -> Result<Options> {
        let mut precompressed = Vec::new();
        for coding in &self.precompressed {
            let coding = match coding {
                CodingName::Br => Coding::Brotli,
                CodingName::Zstd => Coding::Zstd,
                CodingName::Gzip => Coding::Gzip,
                CodingName::None if self.precompressed.len() == 1 => continue,
                CodingName::None => bail!("--precompressed none goes with no other coding"),
            };
            if !precompressed.contains(&coding) {
                precompressed.push(coding);
            }
        }
        let mut error_pages: Vec<(u16, Vec<u8>)> = Vec::new();
        for (status, PathBytes(path)) in self.error_pages {
            if error_pages.iter().any(|(other, _)| *other == status) {
                bail!("--error-page is given twice for status {status}");
            }
            error_pages.push((status, path));
        }
        for (at, rule) in self.cache_control.iter().enumerate() {
            if self.cache_control[..at].iter().any(|other| other.prefix == rule.prefix) {
                let prefix = String::from_utf8_lossy(&rule.prefix);
                bail!("--cache-control is given twice for /{prefix}");
            }
        }
        let mut options = Options {
            index: self.index,
            listing: self.listing,
            fallback: self.fallback.map(|PathBytes(path)| path),
            error_pages,
            cache_control: self.cache_control,
            links: match self.symlinks {
                Symlinks::Inside => Links::Inside,
                Symlinks::Never => Links::Never,
                Symlinks::Anywhere => Links::Anywhere,
            },
            dotfiles: self.dotfiles,
            precompressed,
            in_place_edits: self.in_place_edits.into_iter().map(|prefix| prefix.0).collect(),
            in_memory: self.in_memory.as_u64(),
        };
        options.settle();
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        files: FileFlags,
    }

    fn options(line: &[&str]) -> Result<Options> {
        let line = ["program"].iter().chain(line);
        Line::try_parse_from(line)?.files.options()
    }

    #[test]
    fn flags_become_options() {
        let given = options(&[
            "--index",
            "start.html",
            "--index",
            "index.htm",
            "--fallback",
            "/app.html",
            "--error-page",
            "404=errors/a%20b.html",
            "--cache-control",
            "no-cache",
            "--cache-control",
            "/assets/=max-age=9, immutable",
            "--symlinks",
            "never",
            "--precompressed",
            "gzip,br",
            "--in-memory",
            "1MiB",
        ])
        .unwrap();
        assert_eq!(given.index, ["start.html", "index.htm"]);
        assert_eq!(given.fallback.as_deref(), Some(&b"app.html"[..]));
        assert_eq!(given.error_page(404), Some(&b"errors/a%20b.html"[..]));
        assert_eq!(given.cache_control(b"assets/x"), Some("max-age=9, immutable"));
        assert_eq!(given.cache_control(b"x"), Some("no-cache"));
        assert_eq!(given.links, Links::Never);
        assert_eq!(given.precompressed, [Coding::Gzip, Coding::Brotli]);
        assert_eq!(given.in_memory, 1 << 20);
        assert!(!given.is_edited_in_place(b"live/log"));
        let live = options(&["--in-place-edits=/live/", "--listing"]).unwrap();
        assert!(live.is_edited_in_place(b"live/log") && !live.is_edited_in_place(b"page"));
        assert!(options(&["--in-place-edits"]).unwrap().is_edited_in_place(b"page"));
        assert_eq!(options(&[]).unwrap().in_memory, sluicegate::MEMORY_UP_TO);
        let odd = options(&["--cache-control", "//a/../assets/=no-store"]).unwrap();
        assert_eq!(odd.cache_control(b"assets/x"), Some("no-store"));
        assert!(options(&["--cache-control", "a", "--cache-control", "b"]).is_err());
        assert!(options(&["--precompressed", "none"]).unwrap().precompressed.is_empty());
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            ["--index", "a/b"],
            ["--index", ""],
            ["--fallback", "/"],
            ["--fallback", "../x"],
            ["--error-page", "404"],
            ["--error-page", "200=x"],
            ["--error-page", "404="],
            ["--cache-control", ""],
            ["--cache-control", "/assets/"],
            ["--cache-control", "a\nb"],
            ["--in-place-edits=live", "--listing"],
            ["--symlinks", "some"],
            ["--precompressed", "none,br"],
            ["--precompressed", "lzma"],
            ["--in-memory", "many"],
            ["--in-memory", "1GiB"],
        ] {
            assert!(options(&line).is_err(), "{line:?}");
        }
        assert!(options(&["--error-page", "404=a", "--error-page", "404=b"]).is_err());
    }
}
