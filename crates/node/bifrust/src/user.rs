//! `bifrust user`.

use std::io::Write as _;
use std::process::ExitCode;

use bifrust_providers::{ScramVerifier, User, UserFile, hash_password};

use crate::arguments::{UserAdd, UserCommand, UserList, UserName};
use crate::password;

pub(crate) fn run(command: &UserCommand) -> anyhow::Result<ExitCode> {
    match command {
        UserCommand::Add(add) => self::add(add),
        UserCommand::Remove(name) => remove(name),
        UserCommand::List(list) => self::list(list),
    }
}

fn add(add: &UserAdd) -> anyhow::Result<ExitCode> {
    let password = password::read(add.password_file.as_deref())?;
    let user = User {
        tenant: add.name.tenant.clone(),
        name: add.name.user.clone(),
        password: hash_password(&password)?,
        scram: match add.scram {
            true => Some(ScramVerifier::new(&password)?.to_string()),
            false => None,
        },
        publish: rules(&add.publish, add.publish_nothing),
        subscribe: rules(&add.subscribe, add.subscribe_nothing),
    };
    let is_new = UserFile::new(&add.name.file).put(user)?;
    let what = if is_new { "added" } else { "changed" };
    writeln!(
        std::io::stdout(),
        "{what} {}/{}",
        add.name.tenant,
        add.name.user
    )?;
    Ok(ExitCode::SUCCESS)
}

fn rules(given: &[String], nothing: bool) -> Option<Vec<String>> {
    (nothing || !given.is_empty()).then(|| given.to_vec())
}

fn remove(name: &UserName) -> anyhow::Result<ExitCode> {
    let file = UserFile::new(&name.file);
    anyhow::ensure!(
        file.remove(&name.tenant, &name.user)?,
        "{} has no user {}/{}",
        file.path().display(),
        name.tenant,
        name.user
    );
    writeln!(std::io::stdout(), "removed {}/{}", name.tenant, name.user)?;
    Ok(ExitCode::SUCCESS)
}

fn list(list: &UserList) -> anyhow::Result<ExitCode> {
    let file = UserFile::new(&list.file);
    // To a node a missing file is one without users; who asks for a list should know.
    anyhow::ensure!(
        file.path().exists(),
        "{} does not exist; `bifrust user add` makes it",
        file.path().display()
    );
    let mut out = std::io::stdout().lock();
    for user in file.read()? {
        if list.json {
            let line = serde_json::json!({
                "tenant": user.tenant,
                "user": user.name,
                "publish": user.publish,
                "subscribe": user.subscribe,
            });
            writeln!(out, "{line}")?;
        } else {
            let publish = in_words(user.publish.as_deref());
            let subscribe = in_words(user.subscribe.as_deref());
            writeln!(
                out,
                "{}/{}  publish: {publish}  subscribe: {subscribe}",
                user.tenant, user.name
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(rules: Option<&[String]>) -> String {
    match rules {
        None => "everything".to_owned(),
        Some([]) => "nothing".to_owned(),
        Some(rules) => rules.join(" "),
    }
}
