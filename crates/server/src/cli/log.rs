//! Flags that say where a line for each request goes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::{AccessLog, LogFormat, LogTo};

#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogFlags {
    /// Write a line for each request to this file, or to standard output (-).
    #[arg(long, value_name = "PATH")]
    access_log: Option<PathBuf>,
    /// What the lines look like.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = FormatName::Json,
          requires = "access_log")]
    access_log_format: FormatName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// An object of JSON each.
    Json,
    /// As Apache and nginx have it.
    Combined,
}

impl LogFlags {
    /// What the flags say together; `None` for no log.
    pub(super) fn access_log(self) -> Option<AccessLog> {
        let path = self.access_log?;
        let to = if path.as_os_str() == "-" { LogTo::Stdout } else { LogTo::File(path) };
        let format = match self.access_log_format {
            FormatName::Json => LogFormat::Json,
            FormatName::Combined => LogFormat::Combined,
        };
        Some(AccessLog { to, format, acked: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        log: LogFlags,
    }

    fn access_log(line: &[&str]) -> Result<Option<AccessLog>, clap::Error> {
        let line = ["program"].iter().chain(line);
        Ok(Line::try_parse_from(line)?.log.access_log())
    }

    #[test]
    fn a_log_is_written_where_it_is_asked_for() {
        assert_eq!(access_log(&[]).unwrap(), None);
        let log = access_log(&["--access-log", "-"]).unwrap().unwrap();
        assert_eq!(log, AccessLog { to: LogTo::Stdout, format: LogFormat::Json, acked: false });
        let line = ["--access-log", "/var/log/a", "--access-log-format", "combined"];
        let log = access_log(&line).unwrap().unwrap();
        assert_eq!(log.to, LogTo::File(PathBuf::from("/var/log/a")));
        assert_eq!(log.format, LogFormat::Combined);
        assert!(access_log(&["--access-log-format", "combined"]).is_err());
        assert!(access_log(&["--access-log", "-", "--access-log-format", "xml"]).is_err());
    }
}
