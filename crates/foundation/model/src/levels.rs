//! Topic levels as bytes whose order suits skip-scans.
//!
//! Each level is its bytes and a 0; the last one is followed by one more 0. An empty level is `FF 00`.
//!
//! ```text
//! a        61 00 00
//! a/b      61 00 62 00 00
//! a//b     61 00 FF 00 62 00 00
//! ab       61 62 00 00
//! ```
//!
//! Levels are UTF-8 without U+0000, so neither 0 nor FF stands in one, and a level begins with
//! something else than the 0 that ends a name. Hence the order: a name, then everything below it, then
//! whatever merely begins with the same letters. Everything at and below `a` is one run of keys.

mod filter_walk;

pub use filter_walk::{FilterLevels, Step};

/// Ends a level, and after the last level the name.
pub const END: u8 = 0;

/// Lower than the first byte of any level, higher than [`END`].
pub const FIRST: u8 = 1;

/// Stands for a level without bytes.
const EMPTY: &[u8] = &[0xFF];

/// The bytes of one level, without its end.
pub fn level(text: &str) -> &[u8] {
    if text.is_empty() {
        EMPTY
    } else {
        text.as_bytes()
    }
}

/// Appends all levels of a topic name or filter, ended.
pub fn push_name(key: &mut Vec<u8>, name: &str) {
    for text in name.split('/') {
        push_level(key, level(text));
    }
    key.push(END);
}

/// Appends one level and its end.
pub fn push_level(key: &mut Vec<u8>, level: &[u8]) {
    key.extend_from_slice(level);
    key.push(END);
}

/// Reads a name back; what follows it. `None` if the bytes are none.
pub fn split_name(key: &[u8]) -> Option<(String, &[u8])> {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key;
    loop {
        let end = rest.iter().position(|byte| *byte == END)?;
        let (level, after) = rest.split_at(end);
        match level {
            [] => return None,
            EMPTY => {}
            // It would read as two, and so as the name of another key.
            level if level.contains(&b'/') => return None,
            level => name.extend_from_slice(level),
        }
        rest = &after[1..];
        if rest.first() == Some(&END) {
            return Some((String::from_utf8(name).ok()?, &rest[1..]));
        }
        name.push(b'/');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(name: &str) -> Vec<u8> {
        let mut key = Vec::new();
        push_name(&mut key, name);
        key
    }

    #[test]
    fn a_name_and_all_below_it_are_one_run() {
        let run = [
            "a", "a/\u{1}", "a/b", "a/b/c", "a/bc", "a/", "a//x", "ab", "b", "",
        ];
        let keys: Vec<_> = run.iter().map(|name| encoded(name)).collect();
        assert!(keys.is_sorted(), "{keys:?}");
    }

    #[test]
    fn damaged_names_are_refused() {
        for bad in [
            &b""[..],
            b"a",
            b"a\0",
            b"\0",
            b"\0\0",
            b"a/b\0\0",
            b"a\0\0b"[..2].as_ref(),
        ] {
            assert_eq!(split_name(bad), None, "{bad:?}");
        }
        assert_eq!(split_name(b"\xC0\0\0"), None);
    }

    proptest! {
        #[test]
        fn names_read_back(name in "[a\u{1}ü/+#$]{0,12}", rest in any::<Vec<u8>>()) {
            let mut key = encoded(&name);
            key.extend_from_slice(&rest);
            prop_assert_eq!(split_name(&key), Some((name, &rest[..])));
        }

        #[test]
        fn other_names_have_other_bytes_and_none_begins_another(
            a in "[ab/]{0,6}", b in "[ab/]{0,6}",
        ) {
            prop_assert_eq!(a == b, encoded(&b).starts_with(&encoded(&a)));
        }
    }
}
