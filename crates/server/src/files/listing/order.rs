//! The order of a listing, as its query says.

use std::cmp::Ordering;

use super::Item;

/// What lines are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Name,
    Size,
    Time,
}

impl Key {
    /// As in the query.
    pub(super) fn name(self) -> &'static str {
        match self {
            Key::Name => "name",
            Key::Size => "size",
            Key::Time => "time",
        }
    }

    /// The order in which a key is wanted first: names from A, large and new
    /// things before small and old ones.
    fn first(self) -> Order {
        Order { key: self, descending: self != Key::Name }
    }
}

/// An order of lines. Directories come first in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) key: Key,
    pub(super) descending: bool,
}

impl Order {
    /// The order that `sort=name|size|time&order=asc|desc` says; other
    /// parameters and values say nothing.
    pub(super) fn of(query: Option<&str>) -> Self {
        let mut key = Key::Name;
        let mut descending = None;
        for parameter in query.unwrap_or_default().split('&') {
            match parameter {
                "sort=name" => key = Key::Name,
                "sort=size" => key = Key::Size,
                "sort=time" => key = Key::Time,
                "order=asc" => descending = Some(false),
                "order=desc" => descending = Some(true),
                _ => {}
            }
        }
        let first = key.first();
        Order { descending: descending.unwrap_or(first.descending), ..first }
    }

    /// The order that the heading of `key` leads to from here.
    pub(super) fn next(self, key: Key) -> Self {
        if self.key == key { Order { key, descending: !self.descending } } else { key.first() }
    }

    /// As in the query.
    pub(super) fn direction(self) -> &'static str {
        if self.descending { "desc" } else { "asc" }
    }

    pub(super) fn sort(self, items: &mut Vec<Item>) {
        let mut named: Vec<(String, Item)> = std::mem::take(items)
            .into_iter()
            .map(|item| (String::from_utf8_lossy(&item.name).to_lowercase(), item))
            .collect();
        named.sort_unstable_by(|one, other| self.compare(one, other));
        items.extend(named.into_iter().map(|(_, item)| item));
    }

    fn compare(self, one: &(String, Item), other: &(String, Item)) -> Ordering {
        let ((one_name, one), (other_name, other)) = (one, other);
        let turned = |ordering: Ordering| {
            if self.descending { ordering.reverse() } else { ordering }
        };
        // The bytes at last: names that differ only in case, or in what is no
        // UTF-8, have one order too.
        let by_name = natural(one_name.as_bytes(), other_name.as_bytes())
            .then_with(|| one.name.cmp(&other.name));
        other.is_directory.cmp(&one.is_directory).then_with(|| match self.key {
            Key::Name => turned(by_name),
            // What a directory takes for its own table tells nobody anything.
            Key::Size if one.is_directory => by_name,
            Key::Size => turned(one.len.cmp(&other.len)).then(by_name),
            Key::Time => turned(one.modified.cmp(&other.modified)).then(by_name),
        })
    }
}

/// Compares texts in which runs of digits are numbers: `a9` before `a10`.
fn natural(mut one: &[u8], mut other: &[u8]) -> Ordering {
    loop {
        match (one.first(), other.first()) {
            (Some(a), Some(b)) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (a, after_a) = number(one);
                let (b, after_b) = number(other);
                // Without leading zeros the longer number is the greater one.
                let ordering = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
                if ordering != Ordering::Equal {
                    return ordering;
                }
                (one, other) = (after_a, after_b);
            }
            (Some(a), Some(b)) if a == b => (one, other) = (&one[1..], &other[1..]),
            (a, b) => return a.cmp(&b),
        }
    }
}

/// The number at the start, without leading zeros, and what follows it.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().position(|&byte| byte != b'0').unwrap_or(digits.len());
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, is_directory: bool, len: u64, modified: i64) -> Item {
        Item { name: name.as_bytes().to_vec(), is_directory, len, modified }
    }

    fn names(query: &str) -> String {
        let mut items = vec![
            item("b10", false, 5, 40),
            item("zoo", true, 9, 10),
            item("B9", false, 7, 30),
            item("a", false, 5, 20),
            item("b9", false, 0, 30),
            item("Air", true, 1, 90),
            item("b09", false, 5, -3),
        ];
        Order::of(Some(query)).sort(&mut items);
        let names: Vec<_> =
            items.iter().map(|item| String::from_utf8_lossy(&item.name).into_owned()).collect();
        names.join(" ")
    }

    #[test]
    fn queries_order_lines_and_directories_come_first() {
        for (query, expected) in [
            ("", "Air zoo a B9 b09 b9 b10"),
            ("sort=name&order=desc", "zoo Air b10 b9 b09 B9 a"),
            ("sort=size", "Air zoo B9 a b09 b10 b9"),
            ("order=asc&sort=size", "Air zoo b9 a b09 b10 B9"),
            ("sort=time&order=desc", "Air zoo b10 B9 b9 a b09"),
            ("sort=time&order=asc", "zoo Air b09 a B9 b9 b10"),
            ("sort=colour&order=up&x&=&sort", "Air zoo a B9 b09 b9 b10"),
        ] {
            assert_eq!(names(query), expected, "{query}");
        }
        assert_eq!(Order::of(None), Order { key: Key::Name, descending: false });
    }

    #[test]
    fn a_heading_turns_its_own_order_and_begins_with_the_wanted_one() {
        let start = Order::of(None);
        assert!(start.next(Key::Name).descending);
        assert!(!start.next(Key::Name).next(Key::Name).descending);
        let sizes = start.next(Key::Size);
        assert_eq!((sizes.key, sizes.descending), (Key::Size, true));
        assert_eq!(sizes.next(Key::Size).direction(), "asc");
    }

    /// Sorting may panic when an order contradicts itself.
    #[test]
    fn the_order_of_names_is_an_order() {
        let letters = ["", "0", "1", "9", "a", "/", ":", "é"];
        let mut names = Vec::new();
        for one in letters {
            for other in letters {
                names.extend(["", "0", "2", "b"].map(|third| format!("{one}{other}{third}")));
            }
        }
        let compare = |a: &str, b: &str| natural(a.as_bytes(), b.as_bytes()).then(a.cmp(b));
        let mut sorted = names.clone();
        sorted.sort_by(|a, b| compare(a, b));
        for (place, one) in sorted.iter().enumerate() {
            for (other_place, other) in sorted.iter().enumerate() {
                let ordering = if one == other { Ordering::Equal } else { place.cmp(&other_place) };
                assert_eq!(compare(one, other), ordering, "{one} {other}");
            }
        }
    }
}
