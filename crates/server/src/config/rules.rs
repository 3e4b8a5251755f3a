//! Header fields and clients' addresses, for a route or for a whole site.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;

use sluicegate_http::{BadField, Fields};

use super::mistakes::quoted;
use super::model::{Access, HeaderRules};
use super::parse;
use super::table::{Item, Reader, Table};

/// Fields that only the answer itself can know.
const ANSWERS_OWN: [&str; 4] = ["content-range", "trailer", "upgrade", "te"];

/// What a table says of fields and addresses.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Names and values.
    add: Vec<(String, String)>,
    remove: Vec<String>,
    /// Where there is an `allow` or a `deny`.
    access: Option<Access>,
}

impl Rules {
    pub(super) fn read(reader: &Reader<'_>, table: &Table<'_>) -> Self {
        let (allow, deny) = (table.get("allow"), table.get("deny"));
        let allowed = networks(reader, allow.as_ref(), &mut HashMap::new());
        let mut access = Access { allow: allowed, deny: Vec::new() };
        let mut allowed = access.allow.iter().map(|net| (*net, "allow")).collect();
        access.deny = networks(reader, deny.as_ref(), &mut allowed);
        Rules {
            add: table.get("add_headers").map(|item| add(reader, &item)).unwrap_or_default(),
            remove: table
                .get("remove_headers")
                .map(|item| remove(reader, &item))
                .unwrap_or_default(),
            access: (allow.is_some() || deny.is_some()).then_some(access),
        }
    }

    /// Whether they say who may ask.
    pub(super) fn has_access(&self) -> bool {
        self.access.is_some()
    }

    /// These rules of a route within those of its site: the route has the last
    /// word on each field. Who may ask is said in one place alone: networks of
    /// the site that were added to the route's would let in who is not in these.
    pub(super) fn within(self, site: &Rules) -> (HeaderRules, Access) {
        let is_own = |name: &str| {
            let is = |other: &str| other.eq_ignore_ascii_case(name);
            self.remove.iter().any(|own| is(own)) || self.add.iter().any(|(own, _)| is(own))
        };
        let mut headers = HeaderRules::default();
        let inherited = site.add.iter().filter(|(name, _)| !is_own(name));
        for (name, value) in inherited.chain(&self.add) {
            // Each was tried when it was read.
            let _ = headers.add.add(name, value);
        }
        let is_added = |name: &str| self.add.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        let inherited = site.remove.iter().filter(|name| !is_added(name)).cloned();
        headers.remove = inherited.chain(self.remove.iter().cloned()).collect();
        let access = self.access.or_else(|| site.access.clone());
        (headers, access.unwrap_or_default())
    }
}

fn networks<'a>(
    reader: &Reader<'_>,
    item: Option<&Item<'a>>,
    seen: &mut HashMap<(IpAddr, u8), &'a str>,
) -> Vec<(IpAddr, u8)> {
    let Some(item) = item else { return Vec::new() };
    let expected = "a list of networks, such as [\"192.0.2.0/24\"] or [\"all\"]";
    let mut all = Vec::new();
    let list = item.list(reader, expected);
    if list.as_ref().is_some_and(Vec::is_empty) {
        // Nobody, or everybody? Both are written with "all".
        let message = format_args!("`{}` is empty; expected {expected}", item.name);
        reader.mistake(item.span(), message);
    }
    for item in list.iter().flatten() {
        let expected = "a network, such as \"192.0.2.0/24\"";
        for net in item.parsed(reader, expected, parse::networks).into_iter().flatten() {
            match seen.insert(net, item.name) {
                None => all.push(net),
                Some(before) => {
                    let text = item.value().as_str().unwrap_or_default();
                    let message = format_args!("`{text}` is in `{before}` already");
                    reader.mistake(item.span(), message);
                    break;
                }
            }
        }
    }
    all
}

fn add(reader: &Reader<'_>, item: &Item<'_>) -> Vec<(String, String)> {
    let example = "a table, such as { \"X-Frame-Options\" = \"DENY\" }";
    fields(reader, item, example, &|span, text| name(reader, span, text))
}

/// Names and values of a table, those of them that may be there.
pub(super) fn fields(
    reader: &Reader<'_>,
    item: &Item<'_>,
    example: &str,
    is_name: &dyn Fn(Range<usize>, &str) -> bool,
) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut names = HashSet::new();
    for item in item.entries(reader, example).iter().flatten() {
        let is_named = is_name(item.key_span(), item.name);
        if is_named && !names.insert(item.name.to_ascii_lowercase()) {
            let message = format_args!("`{}` is here twice; expected a list of values", item.name);
            reader.mistake(item.key_span(), message);
        }
        for item in item.one_or_many() {
            let Some(value) = item.string(reader, "a string, or a list of strings") else {
                continue;
            };
            if value.trim() != value {
                item.wrong(reader, value, "expected no space at its ends");
            } else if let Err(BadField::Value(_)) = Fields::default().add("x", value) {
                item.wrong(reader, value, "it has a control character");
            } else if is_named {
                all.push((item.name.to_owned(), value.to_owned()));
            }
        }
    }
    all
}

fn remove(reader: &Reader<'_>, item: &Item<'_>) -> Vec<String> {
    let list = item.list(reader, "a list of header names, such as [\"ETag\"]");
    let mut all = Vec::new();
    for item in list.iter().flatten() {
        let text = item.string(reader, "a header name, such as \"ETag\"");
        all.extend(text.filter(|text| name(reader, item.span(), text)).map(str::to_owned));
    }
    all
}

/// Notes a name that no field may have here.
fn name(reader: &Reader<'_>, span: Range<usize>, text: &str) -> bool {
    let is_answers_own = ANSWERS_OWN.iter().any(|own| own.eq_ignore_ascii_case(text));
    let message = match Fields::default().add(text, "") {
        Err(BadField::Name(_)) => "is not a header name; expected one such as `X-Frame-Options`",
        Err(_) => "is written by the server itself, from what it knows of the connection",
        Ok(()) if is_answers_own => "is for the answer itself to say",
        Ok(()) => return true,
    };
    reader.mistake(span, format_args!("{} {message}", quoted(text)));
    false
}
