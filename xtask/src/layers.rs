//! Crates by floors: a crate uses floors below its own, and on its own only what it states.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, Metadata, Package};

/// Lowest first. Test crates may use everything, nothing may use them.
const FLOORS: [&str; 5] = ["foundation", "platform", "service", "edge", "node"];

/// What a foundation crate does not use, with the reason.
const NOT_IN_FOUNDATION: [(&str, &str); 12] = [
    ("tokio", "an async runtime"),
    ("async-std", "an async runtime"),
    ("smol", "an async runtime"),
    ("mio", "I/O"),
    ("socket2", "I/O"),
    ("rustix", "I/O"),
    ("libc", "I/O"),
    ("fjall", "I/O"),
    ("tempfile", "I/O"),
    ("tracing", "a global sink"),
    ("rand", "a global random source"),
    ("fastrand", "a global random source"),
];

/// A crate as far as the check looks at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crate {
    floor: Option<usize>,
    stated_floor: Option<String>,
    arrows: Vec<String>,
    folder: String,
    /// Normal and build dependencies by name; those of tests do not shape the product.
    uses: Vec<String>,
}

/// What is wrong with the workspace's arrows.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let crates = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| {
            let manifest = package.manifest_path.as_str();
            manifest.contains("/crates/")
        })
        .map(|package| (package.name.to_string(), read(package)))
        .collect();
    problems(&crates)
}

fn read(package: &Package) -> Crate {
    let stated = &package.metadata["bifrust"];
    let stated_floor = stated["floor"].as_str().map(str::to_owned);
    let folder = package
        .manifest_path
        .parent()
        .and_then(|folder| folder.parent())
        .and_then(|folder| folder.file_name())
        .unwrap_or_default();
    Crate {
        floor: stated_floor
            .as_deref()
            .and_then(|floor| FLOORS.iter().position(|known| *known == floor)),
        stated_floor,
        arrows: stated["arrows"]
            .as_array()
            .map(|arrows| {
                let names = arrows.iter().filter_map(|arrow| arrow.as_str());
                names.map(str::to_owned).collect()
            })
            .unwrap_or_default(),
        folder: folder.to_owned(),
        uses: package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| dependency.name.clone())
            .collect(),
    }
}

fn problems(crates: &BTreeMap<String, Crate>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, own) in crates {
        let Some(floor) = own.floor else {
            problems.push(format!(
                "{name} states no floor; its Cargo.toml needs [package.metadata.bifrust] with \
                 floor = one of {FLOORS:?}"
            ));
            continue;
        };
        if own.stated_floor.as_deref() != Some(own.folder.as_str()) {
            problems.push(format!(
                "{name} lies in crates/{} and states another floor",
                own.folder
            ));
        }
        for used in &own.uses {
            let Some(other) = crates.get(used) else {
                problems.extend(outside(name, floor, used));
                continue;
            };
            let Some(below) = other.floor else { continue };
            if below > floor {
                problems.push(format!(
                    "{name} ({}) uses {used} ({}): an arrow goes up",
                    FLOORS[floor], FLOORS[below]
                ));
            } else if below == floor && !own.arrows.contains(used) {
                problems.push(format!(
                    "{name} uses {used} on its own floor ({}): an arrow goes sideways that is not \
                     stated; turn it round, or state it in arrows if the design has it",
                    FLOORS[floor]
                ));
            }
        }
        for arrow in &own.arrows {
            if !own.uses.contains(arrow) {
                problems.push(format!(
                    "{name} states an arrow to {arrow} and does not use it"
                ));
            }
        }
    }
    problems
}

fn outside(name: &str, floor: usize, used: &str) -> Option<String> {
    let (_, why) = NOT_IN_FOUNDATION
        .iter()
        .find(|(refused, _)| floor == 0 && *refused == used)?;
    Some(format!(
        "{name} is a foundation crate and uses {used}: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_on(floor: &str, uses: &[&str], arrows: &[&str]) -> Crate {
        let owned = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect();
        Crate {
            floor: FLOORS.iter().position(|known| *known == floor),
            stated_floor: Some(floor.to_owned()),
            folder: floor.to_owned(),
            arrows: owned(arrows),
            uses: owned(uses),
        }
    }

    fn told(crates: &[(&str, Crate)]) -> Vec<String> {
        let crates = crates
            .iter()
            .map(|(name, own)| ((*name).to_owned(), own.clone()))
            .collect();
        problems(&crates)
    }

    #[test]
    fn arrows_down_and_stated_ones_are_fine() {
        let crates = [
            ("model", crate_on("foundation", &["bytes"], &[])),
            ("dist", crate_on("service", &["model", "tokio"], &[])),
            ("inbox", crate_on("service", &["dist"], &["dist"])),
        ];
        assert_eq!(told(&crates), [""; 0]);
    }

    #[test]
    fn arrows_up_and_unstated_ones_sideways_are_told() {
        let crates = [
            ("dist", crate_on("service", &["mqtt", "inbox"], &[])),
            ("inbox", crate_on("service", &[], &[])),
            ("mqtt", crate_on("edge", &[], &[])),
        ];
        let told = told(&crates);
        assert_eq!(told.len(), 2);
        assert!(told[0].contains("up") && told[1].contains("sideways"));
    }

    #[test]
    fn foundations_use_no_runtime_and_floors_are_where_they_say() {
        let misplaced = Crate {
            folder: "edge".to_owned(),
            ..crate_on("platform", &[], &["gone"])
        };
        let told = told(&[
            ("model", crate_on("foundation", &["tokio"], &[])),
            ("kv", misplaced),
            ("new", Crate::default()),
        ]);
        assert_eq!(told.len(), 4, "{told:?}");
    }

    #[test]
    fn this_workspace_is_in_order() {
        let metadata = cargo_metadata::MetadataCommand::new()
            .no_deps()
            .exec()
            .unwrap();
        assert_eq!(check(&metadata), [""; 0]);
    }
}
