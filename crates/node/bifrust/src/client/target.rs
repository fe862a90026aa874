//! What `pub` and `sub` have in common: whom to connect to, and as whom.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use anyhow::{bail, ensure};
use bifrust_mqtt_codec::{Connect, Qos, Version, Will};
use clap::Args;

use crate::endpoint::Endpoint;
use crate::password;

/// Whom to connect to, and as whom.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    /// Client id; the broker assigns one if left out
    #[arg(short = 'i', long = "id", value_name = "ID")]
    id: Option<String>,
    /// User name, TENANT/USER for a tenant other than the default one
    #[arg(short = 'u', long, value_name = "USER")]
    username: Option<String>,
    /// File with the password; its last line end does not count. BIFRUST_PASSWORD does as well
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<PathBuf>,
    /// Password; everybody on this machine can read it, --password-file is better
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD")]
    password: Option<String>,
    /// MQTT version: 5, 311 or 31 (also mqttv5, mqttv311, mqttv31)
    #[arg(short = 'V', long, default_value = "5", value_parser = parse_version, value_name = "VERSION")]
    protocol_version: Version,
    /// Keep alive in seconds, 0 for none
    #[arg(short, long, default_value_t = 60, value_name = "SECONDS")]
    keepalive: u16,
    /// Keep the session when the connection ends
    #[arg(short = 'c', long = "disable-clean-session", requires = "id")]
    keep_session: bool,
    /// Seconds that a kept session lives without a connection, MQTT 5
    #[arg(short = 'x', long, value_name = "SECONDS")]
    session_expiry: Option<u32>,
    /// Topic of the will, the message that the broker sends when this client is lost
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// Payload of the will
    #[arg(long, value_name = "TEXT", requires = "will_topic", default_value = "")]
    will_payload: String,
    /// QoS of the will
    #[arg(long, value_name = "QOS", requires = "will_topic", default_value = "0", value_parser = parse_qos)]
    will_qos: Qos,
    /// Retain the will
    #[arg(long, requires = "will_topic")]
    will_retain: bool,
    /// Seconds to wait before the will is sent, MQTT 5
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "will_topic",
        default_value_t = 0
    )]
    will_delay: u32,
}

impl Target {
    /// The CONNECT it asks for.
    pub(crate) fn connect(&self) -> anyhow::Result<Connect> {
        let mut connect = Connect::new(self.protocol_version, self.id.clone().unwrap_or_default());
        connect.clean_start = !self.keep_session;
        connect.keep_alive = self.keepalive;
        connect.user_name = self.username.clone().map(Into::into);
        connect.password = self.password()?.map(Into::into);
        ensure!(
            connect.password.is_none()
                || connect.user_name.is_some()
                || self.protocol_version == Version::V5,
            "a password without a user name needs MQTT 5: give -u"
        );
        if self.protocol_version == Version::V5 {
            connect.properties.session_expiry = match (self.session_expiry, self.keep_session) {
                (Some(seconds), _) => Some(seconds),
                // As the older versions have it: until the broker's own limit.
                (None, true) => Some(u32::MAX),
                (None, false) => None,
            };
        }
        connect.will = self.will_topic.as_ref().map(|topic| {
            Box::new(Will {
                topic: topic.as_str().into(),
                payload: self.will_payload.clone().into(),
                qos: self.will_qos,
                retain: self.will_retain,
                delay: self.will_delay,
                ..Will::default()
            })
        });
        Ok(connect)
    }

    /// Refuses flags that only MQTT 5 has, where an older version is spoken.
    pub(crate) fn check_version(&self, v5_only: &[(&str, bool)]) -> anyhow::Result<()> {
        let own = [
            ("--session-expiry", self.session_expiry.is_some()),
            ("--will-delay", self.will_delay > 0),
        ];
        let given = own.iter().chain(v5_only).find(|(_, is_given)| *is_given);
        match given {
            Some((flag, _)) if self.protocol_version != Version::V5 => {
                bail!("{flag} needs MQTT 5; leave -V out")
            }
            _ => Ok(()),
        }
    }

    fn password(&self) -> anyhow::Result<Option<Vec<u8>>> {
        if let Some(file) = &self.password_file {
            return password::from_file(file).map(Some);
        }
        if let Some(password) = &self.password {
            eprintln!(
                "warning: a password given with -P can be read by everybody on this machine; \
                 --password-file or BIFRUST_PASSWORD is better"
            );
            return Ok(Some(password.clone().into()));
        }
        Ok(std::env::var_os("BIFRUST_PASSWORD").map(OsString::into_vec))
    }
}

/// Reads a QoS.
pub(crate) fn parse_qos(text: &str) -> Result<Qos, String> {
    let level = text.parse().ok().and_then(Qos::from_u8);
    level.ok_or_else(|| "a QoS is 0, 1 or 2".to_owned())
}

fn parse_version(text: &str) -> Result<Version, String> {
    match text.trim_start_matches("mqttv") {
        "5" | "5.0" => Ok(Version::V5),
        "311" | "3.1.1" => Ok(Version::V311),
        "31" | "3.1" => Ok(Version::V31),
        _ => Err("a version is 5, 311 or 31".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        target: Target,
    }

    fn connect(line: &[&str]) -> Connect {
        let line = std::iter::once("x").chain(line.iter().copied());
        Line::try_parse_from(line)
            .unwrap()
            .target
            .connect()
            .unwrap()
    }

    #[test]
    fn mosquittos_flags_make_a_connect() {
        let plain = connect(&[]);
        assert!(plain.clean_start && plain.version == Version::V5);
        let kept = connect(&["-i", "me", "-c", "-V", "mqttv311", "-u", "t/u", "-k", "5"]);
        assert!(!kept.clean_start);
        assert_eq!((kept.keep_alive, kept.version), (5, Version::V311));
        assert_eq!(kept.user_name.as_deref(), Some("t/u"));
        let v5 = connect(&["-i", "me", "-c"]);
        assert_eq!(v5.properties.session_expiry, Some(u32::MAX));
    }

    #[test]
    fn what_only_mqtt_5_has_is_not_left_out_silently() {
        let check = |line: &[&str], more: &[(&str, bool)]| {
            let line = std::iter::once("x").chain(line.iter().copied());
            let target = Line::try_parse_from(line).unwrap().target;
            target
                .check_version(more)
                .map_err(|error| error.to_string())
        };
        assert_eq!(check(&["-x", "5"], &[("--expiry", true)]), Ok(()));
        assert_eq!(check(&["-V", "311"], &[("--expiry", false)]), Ok(()));
        let told = |flag: &str| Err(format!("{flag} needs MQTT 5; leave -V out"));
        assert_eq!(
            check(&["-V", "311", "-x", "5"], &[]),
            told("--session-expiry")
        );
        assert_eq!(
            check(&["-V", "311"], &[("--expiry", true)]),
            told("--expiry")
        );
    }

    #[test]
    fn a_will_needs_its_topic() {
        let will = connect(&[
            "--will-topic",
            "gone",
            "--will-qos",
            "1",
            "--will-delay",
            "3",
        ]);
        let will = will.will.unwrap();
        assert_eq!(
            (&*will.topic, will.qos, will.delay),
            ("gone", Qos::AtLeastOnce, 3)
        );
        assert!(Line::try_parse_from(["x", "--will-retain"]).is_err());
    }
}
