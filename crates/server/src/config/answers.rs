//! Routes whose answer stands in the file: redirects and fixed answers.

use std::ops::Range;

use bytes::Bytes;
use sluicegate_http::Fields;

use super::mistakes::{listed, nearest, quoted};
use super::model::{Action, Redirect};
use super::schema;
use super::table::{Item, Reader};

/// What a redirect's target may have in braces.
pub(super) const PLACEHOLDERS: [&str; 3] = ["host", "path", "query"];

/// RFC 9110 section 15.4: those with a Location that clients follow.
const REDIRECTS: [u64; 5] = [301, 302, 303, 307, 308];

pub(super) fn redirect(
    reader: &Reader<'_>,
    item: &Item<'_>,
    place: &mut Option<(String, Range<usize>)>,
) -> Option<Action> {
    let example = "a table, such as { to = \"https://{host}{path}{query}\", status = 308 }";
    let table = item.table(reader, &schema::REDIRECT, example)?;
    let status = match table.get("status") {
        Some(item) => {
            let status = item.integer(reader, 0..=999, 308)?;
            if !REDIRECTS.contains(&status) {
                let expected = "expected 301, 302, 303, 307 or 308";
                item.wrong(reader, &status.to_string(), expected);
            }
            u16::try_from(status).ok()?
        }
        None => 308,
    };
    let example = "where to, such as \"https://{host}{path}{query}\"";
    let item = table.require(reader, "to", example)?;
    let to = item.parsed(reader, example, target)?;
    *place = Some((to.clone(), item.span()));
    Some(Action::Redirect(Redirect { status, to }))
}

/// The value of Location, with placeholders.
fn target(text: &str) -> Result<String, String> {
    let expected = "expected a path or a whole URL, such as \"/new/\" or \"https://{host}{path}\"";
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic() || "\"<>\\^`|".contains(*c)) {
        let mut bytes = [0; 4];
        let encoded: String =
            odd.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect();
        return Err(format!("expected `{encoded}` in place of {}", quoted(&odd.to_string())));
    }
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let tail = rest.get(at..).unwrap_or_default();
        let inner = tail.strip_prefix('{').and_then(|tail| tail.split_once('}'));
        let Some((name, after)) = inner else {
            return Err("a brace has no partner; as itself it is written %7B or %7D".to_owned());
        };
        if !PLACEHOLDERS.contains(&name) {
            let near = nearest(name, PLACEHOLDERS);
            let known = PLACEHOLDERS.map(|name| format!("{{{name}}}"));
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let guess =
                near.map(|near| format!("; did you mean `{{{near}}}`?")).unwrap_or_default();
            let known = listed(&known, "and");
            return Err(format!(
                "{} is no placeholder: there are {known}{guess}",
                quoted(&format!("{{{name}}}"))
            ));
        }
        rest = after;
    }
    let is_path = text.starts_with('/') || text.starts_with("{path}");
    let host = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    let is_no_host = |host: &str| {
        let others = ["/", "?", "#", ":", "{path}", "{query}"];
        host.is_empty() || others.iter().any(|other| host.starts_with(other))
    };
    if host.is_some_and(is_no_host) {
        return Err("a host is missing after `://`, such as `{host}`".to_owned());
    }
    if let Some(at) = text.find("/{path}") {
        // At the beginning, the two slashes would even make a host of the path.
        let (before, after) = text.split_at(at);
        let after = after.trim_start_matches('/');
        return Err(format!("`{{path}}` begins with a slash; did you mean `{before}{after}`?"));
    }
    if host.is_some() || is_path {
        return Ok(text.to_owned());
    }
    let is_name = text.split('/').next().is_some_and(|name| name.contains('.'));
    let guess = is_name.then(|| format!("; did you mean `https://{text}`?"));
    Err(format!("{expected}{}", guess.unwrap_or_default()))
}

pub(super) fn respond(reader: &Reader<'_>, item: &Item<'_>) -> Option<Action> {
    let example = "a table, such as { status = 200, text = \"hello\" }";
    let table = item.table(reader, &schema::RESPOND, example)?;
    let status_item = table.get("status");
    let status = match &status_item {
        Some(item) => u16::try_from(item.integer(reader, 200..=599, 200)?).ok()?,
        None => 200,
    };
    let text_item = table.get("text");
    if status_item.is_none() && text_item.is_none() {
        reader.absence(table.span.clone(), "`respond` says nothing; expected `status` or `text`");
    }
    if let Some(item) = status_item {
        let reason = match status {
            _ if REDIRECTS.contains(&u64::from(status)) => "expected `redirect` for it",
            206 | 304 => "it is about a file: expected another status",
            204 | 205 if text_item.is_some() => "an answer with this status has no content",
            _ => "",
        };
        if !reason.is_empty() {
            item.wrong(reader, &status.to_string(), reason);
        }
    }
    let text = text_item.map(|item| item.string(reader, "a string"));
    let content_type = table.get("type").map(|item| {
        item.parsed(reader, "a media type, such as \"text/html; charset=utf-8\"", media_type)
    });
    Some(Action::Respond {
        status,
        content_type: content_type.unwrap_or(Some("text/plain; charset=utf-8".to_owned()))?,
        content: text.map_or(Some(Bytes::new()), |text| {
            text.map(|text| Bytes::copy_from_slice(text.as_bytes()))
        })?,
    })
}

/// RFC 9110 section 8.3.1.
fn media_type(text: &str) -> Result<String, String> {
    let expected = || "expected a media type, such as \"text/html; charset=utf-8\"".to_owned();
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let (kind, subtype) = essence.split_once('/').ok_or_else(expected)?;
    // Both are tokens, as names of fields are.
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    if !is_token(kind) || !is_token(subtype) || !text.is_ascii() {
        return Err(expected());
    }
    Fields::default().add("Content-Type", text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}
