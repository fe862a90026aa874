//! Where a broker is and how bytes travel there: what `pub`, `sub` and `bench` have in common.

mod tls;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::carrier::Carrier;

/// Where the broker is, and how bytes travel there.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Endpoint {
    /// Host of the broker [default: 127.0.0.1]
    #[arg(short = 'h', long)]
    host: Option<String>,
    /// Port of the broker [default: 1883, with TLS 8883]
    #[arg(short, long)]
    port: Option<u16>,
    /// mqtt://HOST:PORT, mqtts://, ws://HOST:PORT/PATH or wss://, instead of -h and -p
    #[arg(short = 'L', long, value_name = "URL", conflicts_with_all = ["host", "port"])]
    url: Option<String>,
    /// PEM file with the authorities that may have signed the broker's certificate; turns TLS on.
    /// Those of the system if left out
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// PEM file with a certificate to show; turns TLS on
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file with the key of --cert
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Believe whatever certificate the broker shows; turns TLS on
    #[arg(long)]
    insecure: bool,
}

/// An endpoint, looked at closely.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The path of a WebSocket.
    path: Option<String>,
    tls: Option<tls::Config>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Checks it and reads its files.
    pub(crate) fn route(&self) -> anyhow::Result<Route> {
        let has_flag = self.cafile.is_some() || self.cert.is_some() || self.insecure;
        let Some(url) = &self.url else {
            let standard = if has_flag { 8883 } else { 1883 };
            let host = self.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
            return Ok(Route {
                tls: has_flag.then(|| self.tls(&host, "mqtt")).transpose()?,
                host,
                port: self.port.unwrap_or(standard),
                path: None,
            });
        };
        let parts = Url::parse(url).with_context(|| format!("--url {url}"))?;
        ensure!(
            parts.has_tls || !has_flag,
            "--url {url}: no TLS, but --cafile, --cert or --insecure was given; use mqtts or wss"
        );
        let alpn = if parts.path.is_some() {
            "http/1.1"
        } else {
            "mqtt"
        };
        let tls = parts.has_tls.then(|| self.tls(&parts.host, alpn));
        Ok(Route {
            tls: tls.transpose()?,
            host: parts.host,
            port: parts.port,
            path: parts.path,
        })
    }

    fn tls(&self, host: &str, alpn: &str) -> anyhow::Result<tls::Config> {
        let identity = self.cert.as_deref().zip(self.key.as_deref());
        tls::Config::read(host, alpn, self.cafile.as_deref(), identity, self.insecure)
    }
}

impl Route {
    /// What carries the bytes of one connection.
    pub(crate) fn carrier(&self) -> anyhow::Result<Carrier> {
        let tls = self.tls.as_ref().map(tls::Config::connection).transpose()?;
        let host = format!("{}:{}", self.host, self.port);
        Carrier::new(tls, self.path.as_deref().map(|path| (host.as_str(), path)))
    }
}

/// A URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    has_tls: bool,
    host: String,
    port: u16,
    path: Option<String>,
}

impl Url {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = text.split_once("://").context("a URL is SCHEME://HOST")?;
        let (has_tls, is_websocket, standard) = match scheme {
            "mqtt" | "tcp" => (false, false, 1883),
            "mqtts" | "tls" | "ssl" => (true, false, 8883),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            _ => bail!("a scheme is mqtt, mqtts, ws or wss"),
        };
        let (place, path) = match rest.split_once('/') {
            Some((place, path)) => (place, format!("/{path}")),
            None => (rest, String::new()),
        };
        ensure!(!place.contains('@'), "user and password are given with -u");
        ensure!(
            is_websocket || path.is_empty() || path == "/",
            "a topic is given with -t"
        );
        // The colons of an IPv6 address are in brackets.
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().context("a port is a number")?)
            }
            _ => (place, standard),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        ensure!(!host.is_empty(), "there is no host in it");
        let path = if path.is_empty() {
            "/mqtt".to_owned()
        } else {
            path
        };
        Ok(Self {
            has_tls,
            host: host.to_owned(),
            port,
            path: is_websocket.then_some(path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Option<(bool, String, u16, Option<String>)> {
        let url = Url::parse(text).ok()?;
        Some((url.has_tls, url.host, url.port, url.path))
    }

    #[test]
    fn urls_are_taken_apart() {
        let found = |has_tls, host: &str, port, path: Option<&str>| {
            Some((has_tls, host.to_owned(), port, path.map(str::to_owned)))
        };
        assert_eq!(url("mqtt://b"), found(false, "b", 1883, None));
        assert_eq!(url("mqtts://b:1/"), found(true, "b", 1, None));
        assert_eq!(url("ws://b:8083"), found(false, "b", 8083, Some("/mqtt")));
        assert_eq!(url("wss://b/"), found(true, "b", 443, Some("/")));
        assert_eq!(
            url("wss://[::1]:2/x?y"),
            found(true, "::1", 2, Some("/x?y"))
        );
        assert_eq!(url("mqtt://[::1]"), found(false, "::1", 1883, None));
        for wrong in [
            "b:1883",
            "http://b",
            "mqtt://",
            "mqtt://b/t",
            "mqtt://u@b",
            "ws://b:x/",
        ] {
            assert_eq!(url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn flags_turn_tls_on() {
        let endpoint = Endpoint {
            insecure: true,
            ..Endpoint::default()
        };
        let route = endpoint.route().unwrap();
        assert!(route.tls.is_some());
        assert_eq!((route.host.as_str(), route.port), ("127.0.0.1", 8883));
        let endpoint = Endpoint {
            url: Some("ws://b".to_owned()),
            ..endpoint
        };
        assert!(endpoint.route().is_err(), "no TLS where it was asked for");
        assert_eq!(Endpoint::default().route().unwrap().port, 1883);
    }
}
