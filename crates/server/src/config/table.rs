//! Tables and values of a document, read with an eye on what was expected.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::mistakes::{Mistake, listed, nearest, quoted};
use super::parse;
use super::schema::{ALL, FOREIGN, Schema, TOP};
use super::source::Source;

/// What all parts of reading share.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source<'a>,
    /// What relative paths are relative to.
    pub(super) directory: &'a Path,
    pub(super) mistakes: RefCell<Vec<Mistake>>,
    /// Directories that were looked at, and whether they can be opened.
    pub(super) roots: RefCell<HashMap<PathBuf, bool>>,
    /// Directories for rings, and what is wrong with them.
    pub(super) spools: RefCell<HashMap<PathBuf, Result<(), String>>>,
}

impl Reader<'_> {
    /// Notes that what stands at `span` is wrong.
    pub(super) fn mistake(&self, span: Range<usize>, message: impl Display) {
        let message = message.to_string();
        self.mistakes.borrow_mut().push(Mistake { span, message, is_absence: false });
    }

    /// Notes that something is missing at `span`.
    pub(super) fn absence(&self, span: Range<usize>, message: impl Display) {
        let message = message.to_string();
        self.mistakes.borrow_mut().push(Mistake { span, message, is_absence: true });
    }

    /// The line, from 1, of a byte.
    pub(super) fn line(&self, at: usize) -> usize {
        self.source.line_of(at)
    }

    /// A path of the file system, relative to the configuration's own directory.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.directory.join(text)
    }
}

/// A table whose keys are those of its schema.
#[derive(Clone, Debug)]
pub(super) struct Table<'a> {
    pub(super) span: Range<usize>,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// Notes the keys that are not in the schema.
    pub(super) fn new(
        reader: &Reader<'_>,
        span: Range<usize>,
        entries: &'a DeTable<'a>,
        schema: &Schema,
    ) -> Self {
        for key in entries.keys() {
            let name: &str = key.get_ref();
            if schema.later.contains(&name) {
                reader.mistake(key.span(), format_args!("`{name}` is not in this version yet"));
            } else if !schema.keys.contains(&name) {
                reader.mistake(key.span(), unknown(name, schema));
            }
        }
        Table { span, entries }
    }

    /// What is given for `key`.
    pub(super) fn get(&self, key: &'a str) -> Option<Item<'a>> {
        let (found, value) = self.entries.get_key_value(key)?;
        Some(Item { name: key, key: found, value })
    }

    /// The same, whose absence is a mistake.
    pub(super) fn require(
        &self,
        reader: &Reader<'_>,
        key: &'a str,
        example: &str,
    ) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() {
            reader
                .absence(self.span.clone(), format_args!("`{key}` is missing; expected {example}"));
        }
        item
    }
}

fn unknown(name: &str, schema: &Schema) -> String {
    let mut message = format!("unknown key {} in {}", quoted(name), schema.name);
    let homes: Vec<&Schema> = ALL.into_iter().filter(|home| home.keys.contains(&name)).collect();
    match homes.as_slice() {
        [] => match foreign(name, schema).or(nearest(name, schema.keys.iter().copied())) {
            Some(near) => message += &format!("; did you mean `{near}`?"),
            None => message += &format!("; expected {}", listed(schema.keys, "or")),
        },
        [home] if std::ptr::eq(*home, &raw const TOP) => {
            message += "; it belongs before the first table of the file";
        }
        homes => {
            let homes: Vec<&str> = homes.iter().map(|home| home.name).collect();
            message += &format!("; it is a key of {}", homes.join(" and "));
        }
    }
    message
}

/// What a name of nginx's is here.
fn foreign(name: &str, schema: &Schema) -> Option<&'static str> {
    let is_it = |(other, ours): &&(&str, &str)| *other == name && schema.keys.contains(ours);
    FOREIGN.iter().find(is_it).map(|(_, ours)| *ours)
}

/// A key and its value, or one of a list of values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    /// The key.
    pub(super) name: &'a str,
    key: &'a Spanned<DeString<'a>>,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Item<'a> {
    pub(super) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    pub(super) fn key_span(&self) -> Range<usize> {
        self.key.span()
    }

    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// Notes that something of another type was expected.
    pub(super) fn wrong_type(&self, reader: &Reader<'_>, expected: &str) {
        let found = match self.value() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(true) => "`true`",
            DeValue::Boolean(false) => "`false`",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        reader
            .mistake(self.span(), format_args!("`{}` is {found}; expected {expected}", self.name));
    }

    /// Notes what is wrong with a value of the right type.
    pub(super) fn wrong(&self, reader: &Reader<'_>, text: &str, reason: &str) {
        let glue = if reason.starts_with("expected") { ';' } else { ':' };
        let text = if text.is_empty() { "empty".to_owned() } else { quoted(text) };
        let name = self.name;
        reader.mistake(self.span(), format_args!("`{name}` cannot be {text}{glue} {reason}"));
    }

    pub(super) fn string(&self, reader: &Reader<'_>, expected: &str) -> Option<&'a str> {
        let text = self.value().as_str();
        if text.is_none() {
            self.wrong_type(reader, expected);
        }
        text
    }

    /// A string that `parse` makes something of, or tells why not.
    pub(super) fn parsed<T>(
        &self,
        reader: &Reader<'_>,
        expected: &str,
        parse: impl FnOnce(&'a str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.string(reader, expected)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.wrong(reader, text, &reason);
                None
            }
        }
    }

    /// One of several words.
    pub(super) fn choice<T: Clone>(&self, reader: &Reader<'_>, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let expected = listed(&words, "or");
        self.parsed(reader, &expected, |text| {
            match choices.iter().find(|(word, _)| *word == text) {
                Some((_, value)) => Ok(value.clone()),
                None => Err(match nearest(text, words.iter().copied()) {
                    Some(near) => format!("expected {expected}; did you mean `{near}`?"),
                    None => format!("expected {expected}"),
                }),
            }
        })
    }

    pub(super) fn boolean(&self, reader: &Reader<'_>) -> Option<bool> {
        let value = self.value().as_bool();
        if value.is_none() {
            self.wrong_type(reader, "true or false");
        }
        value
    }

    pub(super) fn integer(
        &self,
        reader: &Reader<'_>,
        range: RangeInclusive<u64>,
        example: u64,
    ) -> Option<u64> {
        let Some(number) = self.value().as_integer() else {
            self.wrong_type(reader, &format!("a whole number, such as {example}"));
            return None;
        };
        let value = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            let (least, most) = range.into_inner();
            self.wrong(reader, &number.to_string(), &format!("expected {least} to {most}"));
        }
        value
    }

    /// A span of time with its unit.
    pub(super) fn duration(
        &self,
        reader: &Reader<'_>,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        if let DeValue::Integer(number) = self.value() {
            let reason =
                format!("expected a string with a unit, such as \"{number}s\" or \"{number}ms\"");
            self.wrong(reader, &number.to_string(), &reason);
            return None;
        }
        self.parsed(reader, "a duration, such as \"20s\"", |text| {
            let value = parse::duration(text)?;
            if range.contains(&value) {
                return Ok(value);
            }
            Err(format!(
                "expected {} to {}",
                parse::shown(*range.start()),
                parse::shown(*range.end())
            ))
        })
    }

    /// A number of bytes with its unit, which nothing has no need of.
    pub(super) fn size(
        &self,
        reader: &Reader<'_>,
        range: RangeInclusive<ByteSize>,
    ) -> Option<ByteSize> {
        if let DeValue::Integer(number) = self.value() {
            if number.as_str() == "0" && range.contains(&ByteSize(0)) {
                return Some(ByteSize(0));
            }
            let reason =
                format!("expected a string with a unit, such as \"{number}B\" or \"24KiB\"");
            self.wrong(reader, &number.to_string(), &reason);
            return None;
        }
        self.parsed(reader, "a size, such as \"24KiB\"", |text| {
            let value = parse::size(text)?;
            if range.contains(&value) {
                return Ok(value);
            }
            Err(format!("expected {} to {}", range.start(), range.end()))
        })
    }

    fn elements(&self, values: &'a DeArray<'a>) -> Vec<Item<'a>> {
        values.iter().map(|value| Item { value, ..*self }).collect()
    }

    pub(super) fn list(&self, reader: &Reader<'_>, expected: &str) -> Option<Vec<Item<'a>>> {
        let values = self.value().as_array();
        if values.is_none() {
            self.wrong_type(reader, expected);
        }
        values.map(|values| self.elements(values))
    }

    /// A list, or one value in its place.
    pub(super) fn one_or_many(&self) -> Vec<Item<'a>> {
        match self.value() {
            DeValue::Array(values) => self.elements(values),
            _ => vec![*self],
        }
    }

    /// A table with the keys of a schema.
    pub(super) fn table(
        &self,
        reader: &Reader<'_>,
        schema: &Schema,
        expected: &str,
    ) -> Option<Table<'a>> {
        let entries = self.value().as_table();
        if entries.is_none() {
            self.wrong_type(reader, expected);
        }
        entries.map(|entries| Table::new(reader, self.key_span(), entries, schema))
    }

    /// What is in it, if it is a table.
    pub(super) fn subitems(&self) -> Option<Vec<Item<'a>>> {
        let entries = self.value().as_table()?;
        let items = entries.iter().map(|(key, value)| Item { name: key.get_ref(), key, value });
        Some(items.collect())
    }

    /// A table whose keys the operator chooses.
    pub(super) fn entries(&self, reader: &Reader<'_>, expected: &str) -> Option<Vec<Item<'a>>> {
        let entries = self.subitems();
        if entries.is_none() {
            self.wrong_type(reader, expected);
        }
        entries
    }

    /// The tables of a list of tables, each with the keys of a schema.
    pub(super) fn tables(&self, reader: &Reader<'_>, schema: &Schema) -> Vec<Table<'a>> {
        let expected = format!("tables, each begun by {}", schema.name);
        let Some(values) = self.list(reader, &expected) else { return Vec::new() };
        let table = |item: &Item<'a>| match item.value() {
            DeValue::Table(entries) => Some(Table::new(reader, item.span(), entries, schema)),
            _ => {
                item.wrong_type(reader, &expected);
                None
            }
        };
        values.iter().filter_map(table).collect()
    }
}
