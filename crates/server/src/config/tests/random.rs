//! Texts that nobody meant: no panic, and places that are in the file.

use std::path::Path;

use proptest::prelude::*;

use super::super::source::{Place, Source};
use super::super::understand;
use super::example::EXAMPLE;

fn look(text: &str) {
    let source = Source::new(Path::new("t.toml"), text);
    // Nothing is there, so that no test depends on this machine's files.
    let Err(mistakes) = understand(&source, Path::new("/nonexistent")) else { return };
    let lines: Vec<&str> = text.split('\n').collect();
    let mut last = Place { line: 1, column: 1 };
    for place in mistakes.places() {
        let line = lines.get(place.line - 1);
        let length = line.unwrap_or_else(|| panic!("{place:?} of {text:?}")).chars().count();
        assert!((1..=length + 1).contains(&place.column), "{place:?} of {text:?}");
        assert!(last <= place, "{place:?} after {last:?} of {text:?}");
        last = place;
    }
    assert!(mistakes.to_string().starts_with(&format!("{} mistake", mistakes.count())));
}

/// Pieces that configurations are made of, and some that they are not.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "[[site]]",
        "[site]",
        "[[site.route]]",
        "[timeouts]",
        "hosts",
        "listen",
        "path",
        "match",
        "files",
        "root",
        "redirect",
        "to",
        "respond",
        "text",
        "status",
        "allow",
        "add_headers",
        " = ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\n",
        "\r\n",
        "\"",
        "'",
        "\"\"\"",
        "#",
        ".",
        "\\",
        "%2F",
        "\"/\"",
        "\"*.x\"",
        "\"*.a.test\"",
        "[\"127.0.0.1:80\"]",
        "\"{path}\"",
        "\"/{path}{query}\"",
        "404",
        "-1",
        "0x7f",
        "1e400",
        "1979-05-27",
        "true",
        "nan",
        "\u{feff}",
        "\t",
        "ü",
        "\u{1f600}",
        "\0",
        "\u{1b}",
    ];
    prop_oneof![
        9 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #[test]
    fn arbitrary_text_is_read_or_refused(text in any::<String>()) {
        look(&text);
    }

    #[test]
    fn arbitrary_pieces_are_read_or_refused(pieces in proptest::collection::vec(piece(), 0..60)) {
        look(&pieces.concat());
    }

    #[test]
    fn a_mutated_example_is_read_or_refused(
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), 0usize..40, piece()), 1..6)
    ) {
        let mut text = EXAMPLE.to_owned();
        for (at, length, piece) in cuts {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary(start + length);
            text.replace_range(start..end.max(start), &piece);
        }
        look(&text);
    }
}
