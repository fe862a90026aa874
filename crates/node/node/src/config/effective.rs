//! What `bifrust config show` tells: each value in force, and where it comes from.

use std::fmt::Write as _;

use super::keys;
use super::problem::Place;
use super::values::{Value, Values};

/// What stands for a secret.
const HIDDEN: &str = "\"(hidden)\"";

/// A value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Its key; entries of lists are numbered from 0.
    pub key: String,
    /// The value as a config file says it, secrets hidden; `None` if nothing is set.
    pub value: Option<String>,
    /// Who said so.
    pub place: Place,
    order: Order,
}

/// As a config file has them: keys without a section, then section by section, each list entry with
/// what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    is_in_section: bool,
    /// Place of the outermost section's first key among the known ones.
    section: usize,
    tenant: String,
    entries: Vec<usize>,
    key: usize,
}

impl Effective {
    /// All of them, ordered as a config file has them.
    pub(super) fn all(values: &Values) -> Vec<Self> {
        let known: Vec<String> = keys::known().into_iter().map(|key| key.path).collect();
        let said = values.all();
        let unsaid = known
            .iter()
            .filter(|key| !key.contains(['[', '*']))
            .filter(|key| said.iter().all(|(said, ..)| said != *key))
            .map(|key| (key.clone(), None, Place::Default));
        let said = said
            .iter()
            .map(|(key, value, place)| (key.clone(), Some(text(key, value)), place.clone()));
        let mut all: Vec<Self> = said
            .chain(unsaid)
            .filter_map(|(key, value, place)| {
                Some(Self {
                    order: order(&key, &known)?,
                    key,
                    value,
                    place,
                })
            })
            .collect();
        all.sort_by(|a, b| a.order.cmp(&b.order));
        all
    }

    /// A config file that says the same, with who said it beside each value.
    pub fn to_toml(all: &[Self]) -> String {
        let mut text = String::new();
        let mut section = "";
        for Self {
            key, value, place, ..
        } in all
        {
            let (own, name) = key.rsplit_once('.').unwrap_or(("", key));
            if own != section {
                section = own;
                text.push_str(&header(section));
            }
            let place = place.to_string().replace(char::is_control, "?");
            let _ = match value {
                Some(value) => writeln!(text, "{name} = {value}  # {place}"),
                None => writeln!(text, "# {name} is not set"),
            };
        }
        text
    }
}

fn text(key: &str, value: &Value) -> String {
    match value {
        _ if is_secret(key) => HIDDEN.to_owned(),
        Value::Switch(switch) => switch.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => toml::Value::String(text.clone()).to_string(),
        Value::Address(Some(address)) => format!("\"{address}\""),
        Value::Address(None) => "\"off\"".to_owned(),
    }
}

/// Whether a key holds a secret itself, not the name of a file that does.
fn is_secret(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    ["password", "secret", "token"]
        .iter()
        .any(|word| name.contains(word))
}

/// Where a key comes; `None` if it is none, as the marks of list entries.
fn order(key: &str, known: &[String]) -> Option<Order> {
    let (section, _) = key.rsplit_once('.').unwrap_or(("", key));
    let mut tenant = String::new();
    let mut entries = Vec::new();
    let pattern = match tenant_of(section) {
        Some(name) => {
            name.clone_into(&mut tenant);
            key.replacen(&format!("tenants.{name}."), "tenants.*.", 1)
        }
        None => {
            let steps = key.split('.').map(|step| match step.parse() {
                Ok(index) => {
                    entries.push(index);
                    "[]"
                }
                Err(_) => step,
            });
            steps.collect::<Vec<_>>().join(".")
        }
    };
    let top = pattern.split('.').next().map(|top| format!("{top}."));
    let in_section = |key: &String| top.as_ref().is_some_and(|top| key.starts_with(top));
    Some(Order {
        is_in_section: !section.is_empty(),
        section: known.iter().position(in_section).unwrap_or(0),
        tenant,
        entries,
        key: known.iter().position(|known| *known == pattern)?,
    })
}

/// The tenant's name, which may hold dots, in the path of its section.
fn tenant_of(section: &str) -> Option<&str> {
    section.strip_prefix("tenants.")?.strip_suffix(".settings")
}

fn header(section: &str) -> String {
    if let Some(name) = tenant_of(section) {
        let name = toml::Value::String(name.to_owned());
        return format!("\n[tenants.{name}.settings]\n");
    }
    let steps: Vec<&str> = section.split('.').collect();
    let is_index = |step: &str| step.parse::<usize>().is_ok();
    let path: Vec<&str> = steps
        .iter()
        .copied()
        .filter(|step| !is_index(step))
        .collect();
    let path = path.join(".");
    match steps.last() {
        Some(last) if is_index(last) => format!("\n[[{path}]]\n"),
        _ => format!("\n[{path}]\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{Flags, Sources};
    use super::*;

    const FILE: &str = "\
data = \"/d\"
[[listeners]]
kind = \"wss\"
address = \"127.0.0.1:8884\"
cert = \"/c.pem\"
key = \"/k.pem\"
[[listeners.hosts]]
name = \"a.example\"
tenant = \"acme\"
[[listeners]]
address = \"127.0.0.1:1884\"
max_connections = 5
[settings]
MaxTopicLevels = 9
[tenants.\"a.b\".settings]
MaxTopicLevels = 8
";

    fn sources(text: &str) -> Sources {
        Sources {
            file: Some((PathBuf::from("/b.toml"), text.to_owned())),
            ..Sources::default()
        }
    }

    #[test]
    fn each_value_is_told_with_who_said_it() {
        let mut sources = sources(FILE);
        sources.environment = vec![("BIFRUST__LOG__LEVEL".to_owned(), "warn".to_owned())];
        sources.flags = Flags {
            tcp: Some("127.0.0.1:7".to_owned()),
            ..Flags::default()
        };
        let text = Effective::to_toml(&sources.load().unwrap().effective);
        for expected in [
            "data = \"/d\"  # /b.toml:1\n",
            "\n[listen]\ntcp = \"127.0.0.1:7\"  # --tcp\nws = \"0.0.0.0:8083\"  # built-in default\n",
            "tls = \"off\"  # built-in default\n",
            "level = \"warn\"  # environment BIFRUST__LOG__LEVEL\n",
            "\n[[listeners]]\nkind = \"wss\"  # /b.toml:3\n",
            "\n[[listeners.hosts]]\nname = \"a.example\"  # /b.toml:8\n",
            "MaxTopicLevels = 9  # /b.toml:14\n",
            "MaxTopicLength = 4096  # built-in default\n",
            "\n[tenants.\"a.b\".settings]\nMaxTopicLevels = 8  # /b.toml:16\n",
            "# free_bytes_min is not set\n",
        ] {
            assert!(text.contains(expected), "{expected}\nnot in\n{text}");
        }
    }

    #[test]
    fn what_is_shown_says_the_same_again() {
        let shown = |text: &str| sources(text).load().unwrap().effective;
        let values = |all: &[Effective]| -> Vec<_> {
            let values = all.iter().map(|it| (it.key.clone(), it.value.clone()));
            values.collect()
        };
        let first = shown(FILE);
        let again = shown(&Effective::to_toml(&first));
        assert_eq!(values(&again), values(&first));
    }

    #[test]
    fn every_key_is_shown_unless_its_section_is_not_there() {
        let shown = sources("").load().unwrap().effective;
        for key in keys::known() {
            let is_shown = shown.iter().any(|it| it.key == key.path);
            assert_eq!(is_shown, !key.path.contains(['[', '*']), "{}", key.path);
        }
    }

    #[test]
    fn secrets_are_hidden() {
        let password = Value::Text("x".to_owned());
        assert_eq!(text("api.password", &password), HIDDEN);
        assert_eq!(text("auth.file", &password), "\"x\"");
    }
}
