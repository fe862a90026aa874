//! The config file against the known keys.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::keys::{Key, Takes};
use super::problem::{Place, Problem};
use super::suggest;
use super::values::{Value, Values};

/// Reads what is right into `values` and tells what is not.
pub(super) fn read(
    path: &Path,
    text: &str,
    keys: &[Key],
    values: &mut Values,
    problems: &mut Vec<Problem>,
) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk {
        path,
        text,
        keys,
        values,
        problems,
    };
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        walk.tell(at, "", error.message().replace('\n', "; "));
    }
    walk.table(document.get_ref(), "", "");
}

struct Walk<'a> {
    path: &'a Path,
    text: &'a str,
    keys: &'a [Key],
    values: &'a mut Values,
    problems: &'a mut Vec<Problem>,
}

impl Walk<'_> {
    /// `pattern` is the table's path among the known keys, `full` as the file has it; both end in
    /// a dot unless empty.
    fn table(&mut self, table: &DeTable<'_>, pattern: &str, full: &str) {
        for (name, value) in table {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            let step = self.step(pattern, name);
            self.entry(
                value,
                at,
                &format!("{pattern}{step}"),
                &format!("{full}{name}"),
                pattern,
            );
        }
    }

    /// The name as patterns have it: a tenant's name is `*`.
    fn step<'n>(&self, pattern: &str, name: &'n str) -> &'n str {
        if pattern == "tenants." { "*" } else { name }
    }

    fn entry(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        at: usize,
        pattern: &str,
        full: &str,
        parent: &str,
    ) {
        if let Some(key) = self.keys.iter().find(|key| key.path == pattern) {
            return self.leaf(key, value, full);
        }
        let below = format!("{pattern}.");
        let is_section = self.keys.iter().any(|key| key.path.starts_with(&below));
        if !is_section {
            let message = self.unknown(full, parent);
            return self.tell(at, full, message);
        }
        if pattern == "tenants.*" {
            let name = full.split_once("tenants.").map_or(full, |(_, name)| name);
            if let Err(error) = bifrust_model::TenantName::new(name) {
                self.tell(at, full, error.to_string());
            }
        }
        let is_list = self
            .keys
            .iter()
            .any(|key| key.path.starts_with(&format!("{below}[].")));
        match (is_list, value.get_ref()) {
            (false, DeValue::Table(table)) => self.table(table, &below, &format!("{full}.")),
            (true, DeValue::Array(list)) => self.list(list, &below, full),
            (false, other) => {
                let message = format!("is {}; it must be a table: [{full}]", article(other));
                self.tell(at, full, message);
            }
            (true, other) => {
                let message = format!("is {}; it must be a list: [[{full}]]", article(other));
                self.tell(at, full, message);
            }
        }
    }

    fn list(&mut self, list: &DeArray<'_>, below: &str, full: &str) {
        for (index, entry) in list.iter().enumerate() {
            let full = format!("{full}.{index}");
            match entry.get_ref() {
                DeValue::Table(table) => {
                    let place = self.place(entry.span().start);
                    // Marks that the entry is there, whatever it holds.
                    self.values.set(&full, Value::Switch(true), place);
                    self.table(table, &format!("{below}[]."), &format!("{full}."));
                }
                other => {
                    let message = format!("is {}; each entry must be a table", article(other));
                    self.tell(entry.span().start, &full, message);
                }
            }
        }
    }

    fn leaf(&mut self, key: &Key, value: &Spanned<DeValue<'_>>, full: &str) {
        let at = value.span().start;
        let taken = match value.get_ref() {
            DeValue::String(text) => key.takes.text(text),
            DeValue::Integer(number) => {
                match i128::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => key.takes.number(number),
                    Err(_) => Err(format!("is out of range; what fits is {}", key.takes)),
                }
            }
            DeValue::Boolean(switch) if matches!(key.takes, Takes::Switch) => {
                Ok(Value::Switch(*switch))
            }
            DeValue::Array(list) if key.takes.is_list() => match texts(list) {
                Some(text) => key.takes.text(&text),
                None => Err(format!("holds something else; what fits is {}", key.takes)),
            },
            other => Err(format!("is {}; what fits is {}", article(other), key.takes)),
        };
        match taken {
            Ok(value) => {
                let value = self.anchored(key, value);
                let place = self.place(at);
                self.values.set(full, value, place);
            }
            Err(message) => self.tell(at, full, message),
        }
    }

    /// A relative path counts from the file's folder, wherever the program is started.
    fn anchored(&self, key: &Key, value: Value) -> Value {
        match (&key.takes, self.path.parent(), value) {
            (Takes::Path, Some(folder), Value::Text(text)) => {
                Value::Text(folder.join(text).display().to_string())
            }
            (_, _, value) => value,
        }
    }

    fn unknown(&self, full: &str, parent: &str) -> String {
        let name = full.rsplit('.').next().unwrap_or(full);
        let siblings = self.keys.iter().filter_map(|key| {
            let rest = key.path.strip_prefix(parent)?;
            Some(rest.split('.').next().unwrap_or(rest))
        });
        if let Some(meant) = suggest::nearest(name, siblings) {
            return format!("is no known key; did you mean {meant}?");
        }
        let plain = suggest::plain(name);
        let elsewhere = self.keys.iter().find(|key| {
            key.path
                .rsplit('.')
                .next()
                .is_some_and(|last| suggest::plain(last) == plain)
        });
        match elsewhere {
            Some(key) => format!("is no known key here; there is {}", key.path),
            None => "is no known key; `bifrust config keys` lists all".to_owned(),
        }
    }

    fn place(&self, at: usize) -> Place {
        let lines = self.text.bytes().take(at).filter(|byte| *byte == b'\n');
        Place::Line(self.path.to_owned(), lines.count() + 1)
    }

    fn tell(&mut self, at: usize, key: &str, message: String) {
        let place = self.place(at);
        self.problems.push(Problem {
            place,
            key: key.to_owned(),
            message,
        });
    }
}

/// A list of texts as one, with commas.
fn texts(list: &DeArray<'_>) -> Option<String> {
    let texts = list.iter().map(|entry| match entry.get_ref() {
        DeValue::String(text) => Some(text.as_ref()),
        _ => None,
    });
    Some(texts.collect::<Option<Vec<_>>>()?.join(","))
}

fn article(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}
