//! The page, from what is known of a directory.

use std::fmt::{self, Write};

use bytesize::ByteSize;

use super::order::{Key, Order};
use super::text::{Name, Utc, grouped};
use super::{Item, Listing};
use crate::files::redirect::push_encoded;

const STYLE: &str = include_str!("style.css");

/// The page for `listing`, which is in `order`, of the directory at `path`.
///
/// All its links are relative: they lead right behind a proxy, too, that shows
/// the directory at another path.
pub(super) fn render(path: &[u8], listing: &Listing, order: Order) -> String {
    // Of a line with a name of usual length.
    let mut out = String::with_capacity(STYLE.len() + 2048 + listing.items.len() * 320);
    // Writing to a String cannot fail.
    let _ = write_page(&mut out, path, listing, order);
    out
}

fn write_page(out: &mut String, path: &[u8], listing: &Listing, order: Order) -> fmt::Result {
    out.push_str(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Index of /",
    );
    if !path.is_empty() {
        write!(out, "{}/", Name::plain(path))?;
    }
    write!(out, "</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n")?;
    write_crumbs(out, path)?;
    if listing.more {
        let read = grouped(listing.items.len());
        writeln!(
            out,
            "<p class=\"more\">This directory is too large for one page: these are {read} of its \
             entries, the others are not shown.</p>"
        )?;
    }
    out.push_str("<table>\n<thead><tr>");
    for (key, title) in
        [(Key::Name, "Name"), (Key::Size, "Size"), (Key::Time, "Modified <small>UTC</small>")]
    {
        write_heading(out, key, title, order)?;
    }
    out.push_str("</tr></thead>\n<tbody translate=\"no\">\n");
    if !path.is_empty() {
        out.push_str(
            "<tr class=\"up\"><td class=\"name\" colspan=\"3\">\
             <a href=\"../\" translate=\"yes\">Parent directory</a></td></tr>\n",
        );
    }
    for item in &listing.items {
        write_item(out, item)?;
    }
    out.push_str("</tbody>\n</table>\n");
    write_count(out, listing)?;
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(())
}

/// The way from the root to here.
fn write_crumbs(out: &mut String, path: &[u8]) -> fmt::Result {
    let segments: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|s| !s.is_empty()).collect();
    let Some((last, parents)) = segments.split_last() else {
        out.push_str("<h1><b>Home</b></h1>\n");
        return Ok(());
    };
    write!(out, "<h1><a href=\"{}\">Home</a>", "../".repeat(segments.len()))?;
    for (place, parent) in parents.iter().enumerate() {
        let up = "../".repeat(parents.len() - place);
        write!(
            out,
            "<s>/</s><a href=\"{up}\" translate=\"no\"><bdi>{}</bdi></a>",
            Name::marked(parent)
        )?;
    }
    writeln!(
        out,
        "<s>/</s><b aria-current=\"page\" translate=\"no\"><bdi>{}</bdi></b></h1>",
        Name::marked(last)
    )
}

fn write_heading(out: &mut String, key: Key, title: &str, order: Order) -> fmt::Result {
    let name = key.name();
    write!(out, "<th scope=\"col\" class=\"{name}\"")?;
    if order.key == key {
        let direction = if order.descending { "descending" } else { "ascending" };
        write!(out, " aria-sort=\"{direction}\"")?;
    }
    let next = order.next(key).direction();
    write!(out, "><a href=\"?sort={name}&amp;order={next}\">{title}</a></th>")
}

fn write_item(out: &mut String, item: &Item) -> fmt::Result {
    let (class, slash) = if item.is_directory { ("d", "/") } else { ("f", "") };
    // After `./` no name is taken for a scheme or for a query.
    write!(out, "<tr class=\"{class}\"><td class=\"name\"><a href=\"./")?;
    push_encoded(out, &item.name);
    write!(
        out,
        "{slash}\"><bdi>{}</bdi>{slash}</a></td><td class=\"size\">",
        Name::marked(&item.name)
    )?;
    if !item.is_directory {
        let len = item.len;
        write!(
            out,
            "<data value=\"{len}\" title=\"{} bytes\">{}</data>",
            grouped(len),
            ByteSize(len)
        )?;
    }
    let modified = Utc::of(item.modified);
    writeln!(
        out,
        "</td><td class=\"time\"><time datetime=\"{}\">{}</time></td></tr>",
        modified.full(),
        modified.short()
    )
}

fn write_count(out: &mut String, listing: &Listing) -> fmt::Result {
    if listing.items.is_empty() && !listing.more {
        out.push_str("<p>Nothing is in this directory.</p>\n");
        return Ok(());
    }
    let directories = listing.items.iter().filter(|item| item.is_directory).count();
    let files = listing.items.len() - directories;
    let total = listing.items.iter().filter(|item| !item.is_directory).map(|item| item.len);
    // Sparse files can add up to more than there is.
    let total = total.fold(0, u64::saturating_add);
    let plural = |count, one, many| if count == 1 { one } else { many };
    write!(
        out,
        "<p>{} {}, {} {}",
        grouped(directories),
        plural(directories, "directory", "directories"),
        grouped(files),
        plural(files, "file", "files"),
    )?;
    if files > 0 {
        write!(out, " of <span title=\"{} bytes\">{}</span>", grouped(total), ByteSize(total))?;
    }
    out.push_str("</p>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &[u8]) -> Item {
        Item { name: name.to_vec(), is_directory: false, len: 1_234_567, modified: 0 }
    }

    fn page(path: &[u8], items: Vec<Item>, query: &str) -> String {
        render(path, &Listing { items, more: false }, Order::of(Some(query)))
    }

    /// The values of an attribute, in the order of the page.
    fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
        let start = format!(" {attribute}=\"");
        page.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    }

    fn decode(encoded: &str) -> Vec<u8> {
        let mut bytes = encoded.bytes();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            if byte == b'%' {
                let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                let hex = std::str::from_utf8(&hex).unwrap();
                out.push(u8::from_str_radix(hex, 16).unwrap());
            } else {
                out.push(byte);
            }
        }
        out
    }

    #[test]
    fn a_name_is_text_and_its_link_leads_to_its_bytes() {
        let harmless = page(b"", vec![item(b"f")], "");
        let every_byte: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
        for name in [
            &b"<script>alert(1)</script>"[..],
            b"\"><img src=x onerror=alert(1)>",
            b"' onmouseover='alert(1)",
            b"</title></style></bdi></a><h1>",
            b"<!--",
            b"&lt;&#60;&amp;",
            b"javascript:alert(1)",
            b"//example.com",
            b"100%.txt",
            b"%2e%2e",
            b"a?b=c#d;e&f",
            b" two  spaces ",
            b"line\nbreak\r\tand\x1b[31m\x07",
            b"\xff\xfe\xc0\xaf",
            "\u{202e}gpj.exe\u{2066}".as_bytes(),
            &[b'W'; 255],
            &every_byte,
        ] {
            let name: Vec<u8> = name.iter().copied().filter(|&byte| byte != b'/').collect();
            let page = page(b"", vec![item(&name)], "");
            let link = values(&page, "href")[3];
            let encoded = link.strip_prefix("./").unwrap();
            assert_eq!(decode(encoded), name, "{}", name.escape_ascii());
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
            assert!(encoded.bytes().all(plain), "{encoded}");
            // No element but those of any other line, and marks around escapes.
            let count = |page: &str, text: &str| page.matches(text).count();
            let expected = count(&harmless, "<") + 2 * count(&page, "<i>");
            assert_eq!(count(&page, "<"), expected, "{}", name.escape_ascii());
            assert!(!page.chars().any(|char| char.is_control() && char != '\n'));
            assert!(!page.contains(['\u{202e}', '\u{2066}']));
        }
    }

    #[test]
    fn the_directory_itself_may_have_any_name_too() {
        let page = page(b"a/<b>\xff/'\"&\n", vec![item(b"f")], "");
        assert!(page.contains(r"<title>Index of /a/&lt;b&gt;\xff/&#39;&quot;&amp;\n/</title>"));
        assert!(page.contains(
            "<h1><a href=\"../../../\">Home</a>\
             <s>/</s><a href=\"../../\" translate=\"no\"><bdi>a</bdi></a>\
             <s>/</s><a href=\"../\" translate=\"no\"><bdi>&lt;b&gt;<i>\\xff</i></bdi></a>\
             <s>/</s><b aria-current=\"page\" translate=\"no\">\
             <bdi>&#39;&quot;&amp;<i>\\n</i></bdi></b></h1>"
        ));
    }

    #[test]
    fn all_but_the_root_lead_to_their_parent() {
        assert!(page(b"a", Vec::new(), "").contains(">Parent directory<"));
        assert!(!page(b"", Vec::new(), "").contains("../"));
    }

    #[test]
    fn headings_tell_the_order_and_lead_to_another() {
        let page = page(b"", vec![item(b"f")], "sort=size&order=desc");
        assert_eq!(values(&page, "aria-sort"), ["descending"]);
        assert!(page.contains("class=\"size\" aria-sort=\"descending\""));
        assert_eq!(
            values(&page, "href")[..3],
            ["?sort=name&amp;order=asc", "?sort=size&amp;order=asc", "?sort=time&amp;order=desc"]
        );
    }

    #[test]
    fn sizes_times_and_counts_are_for_people_and_exact() {
        let directory = Item { is_directory: true, ..item(b"sub") };
        let page = page(b"", vec![directory, item(b"f"), item(b"g")], "");
        assert!(page.contains("<data value=\"1234567\" title=\"1,234,567 bytes\">1.2 MiB</data>"));
        assert!(page.contains("<time datetime=\"1970-01-01T00:00:00Z\">1970-01-01 00:00</time>"));
        assert!(page.contains(
            "<p>1 directory, 2 files of <span title=\"2,469,134 bytes\">2.4 MiB</span></p>"
        ));
        assert!(page.contains("<a href=\"./sub/\"><bdi>sub</bdi>/</a>"));
    }
}
