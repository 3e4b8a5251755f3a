//! What an operator wants of header fields, over what is said without that.

use crate::response::Fields;

/// Names whose fields are taken away, and fields that are added.
///
/// What is added takes the place of fields of its name, with two exceptions.
/// Content-Range says which bytes an answer has, and is never touched; nor is the
/// Content-Type of several ranges, without which nobody can take them apart. And
/// Vary is a list of what an answer depends on (RFC 9110 section 12.5.5): what
/// is added to it stands beside what is true anyway, unless that is removed by
/// name.
///
/// Applied twice, they do the same as once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldRules {
    /// Names, in lower case, whose fields go: for good, or for those in `add`.
    gone: Vec<String>,
    add: Fields,
}

const TYPE: &str = "content-type";

impl FieldRules {
    /// Fields of these names are taken away, and then those of `add` are added.
    ///
    /// Fields that are the engine's own to write ([`crate::BadField::Reserved`])
    /// stay, also where `remove` names them.
    #[must_use]
    pub fn new(add: &Fields, remove: &[String]) -> Self {
        let lower = |name: &str| name.to_ascii_lowercase();
        let mut gone: Vec<String> = remove.iter().map(|name| lower(name)).collect();
        let mut added = Fields::default();
        for (name, line) in add.lines() {
            let name = lower(name);
            if name == "content-range" {
                continue;
            }
            added.push_line(line);
            if name != "vary" && !gone.contains(&name) {
                gone.push(name);
            }
        }
        gone.retain(|name| name != "content-range");
        FieldRules { gone, add: added }
    }

    /// Whether they change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.add.as_bytes().is_empty()
    }

    /// Changes the header lines of an answer.
    pub fn apply(&self, fields: &mut Fields) {
        self.apply_to(fields, true);
    }

    /// As [`FieldRules::apply`], but for Content-Type.
    pub(crate) fn apply_but_type(&self, fields: &mut Fields) {
        self.apply_to(fields, false);
    }

    fn apply_to(&self, fields: &mut Fields, with_type: bool) {
        for name in &self.gone {
            if with_type || name != TYPE {
                fields.remove(name);
            }
        }
        for (name, line) in self.add.lines() {
            let is_there = || fields.lines().any(|(_, other)| other == line);
            if (with_type || !name.eq_ignore_ascii_case(TYPE)) && !is_there() {
                fields.push_line(line);
            }
        }
    }

    /// Whether a field of that name, in lower case, is not sent as it was.
    pub(crate) fn touch(&self, name: &str) -> bool {
        self.gone.iter().any(|gone| gone == name)
    }

    /// The Content-Type of what would be sent with `ours`.
    pub(crate) fn content_type(&self, ours: Option<String>) -> Option<String> {
        if !self.touch(TYPE) {
            return ours;
        }
        let value = self.add.value(TYPE)?;
        String::from_utf8(value.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.add(name, value).unwrap();
        }
        fields
    }

    fn applied(rules: &FieldRules, to: &[(&str, &str)]) -> String {
        let mut once = fields(to);
        rules.apply(&mut once);
        let mut twice = once.clone();
        rules.apply(&mut twice);
        assert_eq!(once, twice, "once is enough");
        String::from_utf8(once.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn what_is_added_replaces_and_what_is_removed_is_gone() {
        let add = fields(&[("X-Frame", "deny"), ("cache-control", "no-store"), ("Link", "<a>")]);
        let rules = FieldRules::new(&add, &["eTag".to_owned(), "link".to_owned()]);
        assert!(!rules.is_empty() && FieldRules::default().is_empty());
        let sent = [("ETag", "\"a\""), ("Cache-Control", "max-age=9"), ("A", "b"), ("LINK", "<z>")];
        assert_eq!(
            applied(&rules, &sent),
            "A: b\r\nX-Frame: deny\r\ncache-control: no-store\r\nLink: <a>\r\n"
        );
        assert_eq!(applied(&FieldRules::default(), &[("A", "b")]), "A: b\r\n");
    }

    #[test]
    fn several_fields_of_one_name_are_all_added() {
        let rules = FieldRules::new(&fields(&[("Link", "<a>"), ("Link", "<b>")]), &[]);
        assert_eq!(applied(&rules, &[("Link", "<z>")]), "Link: <a>\r\nLink: <b>\r\n");
    }

    #[test]
    fn vary_grows_and_the_range_stays() {
        let add = fields(&[("Vary", "Origin"), ("Content-Range", "bytes 0-0/1")]);
        let rules = FieldRules::new(&add, &["content-range".to_owned()]);
        let sent = [("Vary", "Accept-Encoding"), ("Content-Range", "bytes 1-2/3")];
        assert_eq!(
            applied(&rules, &sent),
            "Vary: Accept-Encoding\r\nContent-Range: bytes 1-2/3\r\nVary: Origin\r\n"
        );
        let rules = FieldRules::new(&add, &["Vary".to_owned()]);
        assert_eq!(applied(&rules, &sent[..1]), "Vary: Origin\r\n");
    }
}
