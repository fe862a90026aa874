//! Listeners: those of `[listen]` and those of `[[listeners]]`. What `[listen]` says besides
//! addresses holds for all of them, unless an entry says otherwise.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use bifrust_model::TenantName;
use bifrust_mqtt::{CertificateTenant, Network, Proxies, WebSocketRules};

use super::assemble::{Assembly, size};
use super::keys::auth_method;
use super::values::Value;
use super::{AuthMethod, ClientFiles, HostFiles, IdentityFiles, Listener, TlsFiles, Transport};

const TCP_PORT: u16 = 1883;
const WS_PORT: u16 = 8083;
/// Connections of a listener unless said otherwise; the system's descriptors usually end before.
const MAX_CONNECTIONS: u64 = 1_000_000;

impl Assembly<'_> {
    /// All listeners, each with the key of its address.
    pub(super) fn listeners(&mut self, is_dev: bool) -> Vec<(String, Listener)> {
        let values = self.values;
        let everywhere = match is_dev {
            true => IpAddr::from(Ipv4Addr::LOCALHOST),
            false => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        };
        let standard = [
            (Transport::Tcp, "listen.tcp", Some(TCP_PORT)),
            (Transport::Ws, "listen.ws", Some(WS_PORT)),
            // Without a certificate there is nothing that could be on.
            (Transport::Tls, "listen.tls", None),
            (Transport::Wss, "listen.wss", None),
        ];
        let mut listeners = Vec::new();
        for (transport, key, port) in standard {
            let address = match port {
                Some(port) => values.address(key, (everywhere, port).into()),
                None => values.address_if_given(key),
            };
            if let Some(address) = address {
                let listener = self.listener(transport, address, "listen");
                listeners.push((key.to_owned(), listener));
            }
        }
        for index in 0.. {
            let entry = format!("listeners.{index}");
            if values.get(&entry).is_none() {
                break;
            }
            let key = format!("{entry}.address");
            match values.get(&key) {
                Some(Value::Address(Some(address))) => {
                    let transport = self.kind(&entry);
                    let listener = self.listener(transport, *address, &entry);
                    listeners.push((key, listener));
                }
                // A wrong one was told already.
                _ if self.has_problem(&key) => {}
                _ => self.tell(
                    &entry,
                    "has no address; add for example address = \"127.0.0.1:1884\"".to_owned(),
                ),
            }
        }
        if listeners.is_empty() && !self.has_problem("listen.") {
            self.tell(
                "listen.tcp",
                "no listener is on, nobody could connect; set one to \"ADDRESS:PORT\"".to_owned(),
            );
        }
        listeners
    }

    fn kind(&self, entry: &str) -> Transport {
        match self.values.text(&format!("{entry}.kind")) {
            Some("tls") => Transport::Tls,
            Some("ws") => Transport::Ws,
            Some("wss") => Transport::Wss,
            _ => Transport::Tcp,
        }
    }

    fn listener(
        &mut self,
        transport: Transport,
        address: std::net::SocketAddr,
        entry: &str,
    ) -> Listener {
        let values = self.values;
        let most = values.number("limits.max_connections", MAX_CONNECTIONS);
        let own = |name: &str| format!("{entry}.{name}");
        let tls = match transport {
            Transport::Tls | Transport::Wss => self.tls(entry),
            Transport::Tcp | Transport::Ws => None,
        };
        Listener {
            transport,
            address,
            auth: self.auth(entry, tls.as_ref()),
            tenant: values
                .text(&own("tenant"))
                .and_then(|name| TenantName::new(name).ok()),
            certificate_tenant: match self.option(entry, "certificate_tenant") {
                Some("common-name") => Some(CertificateTenant::CommonName),
                Some("organization") => Some(CertificateTenant::Organization),
                Some("organizational-unit") => Some(CertificateTenant::OrganizationalUnit),
                _ => None,
            },
            max_connections: size(values.number(&own("max_connections"), most)),
            tls,
            proxies: self.proxies(entry),
            websocket: WebSocketRules {
                allowed_origins: self.list(entry, "allowed_origins"),
                needs_protocol: self.option(entry, "subprotocol") != Some("optional"),
            },
        }
    }

    fn auth(&mut self, entry: &str, tls: Option<&TlsFiles>) -> Vec<AuthMethod> {
        let named = self.list(entry, "auth");
        let methods: Vec<_> = named.iter().filter_map(|name| auth_method(name)).collect();
        if methods.is_empty() {
            return vec![AuthMethod::Password];
        }
        // What holds for all listeners may be of no use to some.
        let own = format!("{entry}.auth");
        let has_certificates = tls.is_some_and(|tls| tls.clients.is_some());
        if methods.contains(&AuthMethod::Certificate)
            && !has_certificates
            && entry != "listen"
            && self.values.get(&own).is_some()
        {
            let message = "no certificate of a client is asked for there; add client_ca = \
                           \"FILE.pem\", or leave \"certificate\" out";
            self.tell(&own, message.to_owned());
        }
        methods
    }

    fn tls(&mut self, entry: &str) -> Option<TlsFiles> {
        let default = self.identity(entry, entry, true);
        let clients = self.clients(entry);
        let hosts = self.hosts(entry);
        Some(TlsFiles {
            default: default?,
            hosts,
            clients,
            is_tls13_only: self.option(entry, "min_version") == Some("1.3"),
        })
    }

    /// Certificate and key of a listener, or of one of its hosts.
    fn identity(&mut self, place: &str, entry: &str, is_needed: bool) -> Option<IdentityFiles> {
        let file = |assembly: &Self, name: &str| match is_needed {
            true => assembly.option(entry, name).map(PathBuf::from),
            false => assembly
                .values
                .text(&format!("{place}.{name}"))
                .map(PathBuf::from),
        };
        let place = match (place, self.values.get("listen.tls")) {
            ("listen", Some(Value::Address(Some(_)))) => "listen.tls",
            ("listen", _) => "listen.wss",
            (place, _) => place,
        };
        match (file(self, "cert"), file(self, "key")) {
            (Some(cert), Some(key)) => Some(IdentityFiles { cert, key }),
            (None, None) if !is_needed => None,
            // What was given wrong was told already.
            _ if self.has_problem(&format!("{entry}.cert")) => None,
            _ if self.has_problem(&format!("{entry}.key")) => None,
            (None, None) => {
                let message = "TLS needs a certificate; add cert = \"FILE.pem\" and key = \
                               \"FILE.pem\"";
                self.tell(place, message.to_owned());
                None
            }
            (Some(_), None) => {
                self.tell(
                    place,
                    "cert needs its key; add key = \"FILE.pem\"".to_owned(),
                );
                None
            }
            (None, Some(_)) => {
                let message = "key needs its certificate; add cert = \"FILE.pem\"";
                self.tell(place, message.to_owned());
                None
            }
        }
    }

    fn clients(&mut self, entry: &str) -> Option<ClientFiles> {
        let ca = self.option(entry, "client_ca").map(PathBuf::from);
        let crl = self.option(entry, "client_crl").map(PathBuf::from);
        let asked = self.option(entry, "client_auth");
        let is_on = matches!(asked, Some("optional" | "required"));
        let Some(authorities) = ca else {
            let name = if is_on { "client_auth" } else { "client_crl" };
            if is_on || crl.is_some() {
                let key = self.option_key(entry, name);
                let message = "needs the authority that signs clients' certificates; add \
                               client_ca = \"FILE.pem\"";
                self.tell(&key, message.to_owned());
            }
            return None;
        };
        if asked == Some("off") {
            return None;
        }
        Some(ClientFiles {
            authorities,
            revoked: crl,
            is_required: asked != Some("optional"),
        })
    }

    fn hosts(&mut self, entry: &str) -> Vec<HostFiles> {
        let values = self.values;
        let mut hosts = Vec::new();
        for index in 0.. {
            let place = format!("{entry}.hosts.{index}");
            if values.get(&place).is_none() {
                break;
            }
            let Some(name) = values.text(&format!("{place}.name")) else {
                self.tell(
                    &place,
                    "has no name; add for example name = \"mqtt.example.com\"".to_owned(),
                );
                continue;
            };
            hosts.push(HostFiles {
                name: name.to_ascii_lowercase(),
                identity: self.identity(&place, &place, false),
                tenant: values
                    .text(&format!("{place}.tenant"))
                    .and_then(|name| TenantName::new(name).ok()),
            });
        }
        hosts
    }

    fn proxies(&mut self, entry: &str) -> Proxies {
        let trusted: Vec<Network> = self
            .list(entry, "trusted_proxies")
            .iter()
            .filter_map(|network| network.parse().ok())
            .collect();
        let is_on = |name: &str| {
            let key = self.option_key(entry, name);
            self.values.switch(&key).then_some(key)
        };
        let (header, forwarded_for) = (is_on("proxy_protocol"), is_on("forwarded_for"));
        let proxies = Proxies {
            has_header: header.is_some(),
            has_forwarded_for: forwarded_for.is_some(),
            trusted,
        };
        if let Some(key) = header.or(forwarded_for)
            && proxies.trusted.is_empty()
            && !self.has_problem(&format!("{entry}.trusted_proxies"))
            && !self.has_problem("listen.trusted_proxies")
        {
            let message = "nobody is trusted to say who the client is; add for example \
                           trusted_proxies = [\"10.0.0.0/8\"]";
            self.tell(&key, message.to_owned());
        }
        proxies
    }

    /// Where a listener's option was given: its own place, or that for all.
    fn option_key(&self, entry: &str, name: &str) -> String {
        let own = format!("{entry}.{name}");
        match self.values.get(&own) {
            Some(_) => own,
            None => format!("listen.{name}"),
        }
    }

    fn option(&self, entry: &str, name: &str) -> Option<&str> {
        self.values.text(&self.option_key(entry, name))
    }

    fn list(&self, entry: &str, name: &str) -> Vec<String> {
        let list = self.option(entry, name).unwrap_or_default();
        list.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }
}
