//! `BIFRUST__SECTION__KEY` over the config file.

use super::keys::Key;
use super::problem::{Place, Problem};
use super::suggest;
use super::values::Values;

/// What names of variables start with; a single underscore is for other purposes.
const PREFIX: &str = "BIFRUST__";
/// Ends the name of a variable that names a file which holds the value.
const FILE_SUFFIX: &str = "_FILE";

/// Reads what is right into `values` and tells what is not.
pub(super) fn read(
    environment: &[(String, String)],
    keys: &[Key],
    values: &mut Values,
    problems: &mut Vec<Problem>,
) {
    for (name, text) in environment {
        let Some(path) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let found = match find(path, keys) {
            Some((key, full)) => Ok((key, full, text.clone())),
            None => match path
                .strip_suffix(FILE_SUFFIX)
                .and_then(|path| find(path, keys))
            {
                Some((key, full)) => match std::fs::read_to_string(text) {
                    // An editor's last line end is no part of a secret.
                    Ok(content) => {
                        Ok((key, full, content.trim_end_matches(['\n', '\r']).to_owned()))
                    }
                    Err(error) => Err((full, format!("{text} cannot be read: {error}"))),
                },
                None => Err((String::new(), unknown(path, keys))),
            },
        };
        let checked = found.and_then(|(key, full, text)| match key.takes.parse(&text) {
            Ok(value) => Ok((full, value)),
            Err(message) => Err((full, message)),
        });
        let place = Place::Environment(name.clone());
        match checked {
            Ok((full, value)) => values.set(&full, value, place),
            Err((key, message)) => problems.push(Problem {
                place,
                key,
                message,
            }),
        }
    }
}

/// The key that a variable means, and its full path.
fn find<'k>(path: &str, keys: &'k [Key]) -> Option<(&'k Key, String)> {
    keys.iter().find_map(|key| {
        let mut full = Vec::new();
        let mut steps = path.split("__");
        for known in key.path.split('.') {
            let step = steps.next()?;
            match known {
                // A list has no names to call its entries by.
                "[]" => return None,
                "*" if bifrust_model::TenantName::new(step).is_ok() => full.push(step),
                known if suggest::plain(known) == suggest::plain(step) => full.push(known),
                _ => return None,
            }
        }
        steps.next().is_none().then(|| (key, full.join(".")))
    })
}

fn unknown(path: &str, keys: &[Key]) -> String {
    let asked = path.replace("__", ".");
    let names = keys
        .iter()
        .map(|key| key.path.as_str())
        .filter(|path| !path.contains(['*', '[']));
    match suggest::nearest(&asked, names) {
        Some(meant) => format!(
            "means no known key; did you mean {PREFIX}{}?",
            meant.to_uppercase().replace('.', "__")
        ),
        None => "means no known key; `bifrust config keys` lists all".to_owned(),
    }
}
