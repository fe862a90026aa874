//! Messages as text or JSON.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bifrust_mqtt_codec::{ForwardProperty, Publish};
use serde_json::{Map, Value, json};

/// How messages are printed.
pub(super) struct Printer {
    has_topic: bool,
    has_line_end: bool,
    is_json: bool,
}

impl Printer {
    pub(super) fn new(has_topic: bool, has_line_end: bool, is_json: bool) -> Self {
        Self {
            has_topic,
            has_line_end,
            is_json,
        }
    }

    pub(super) fn print(&self, publish: &Publish, out: &mut impl Write) -> io::Result<()> {
        if self.is_json {
            return writeln!(out, "{}", object(publish));
        }
        if self.has_topic {
            write!(out, "{} ", publish.topic)?;
        }
        out.write_all(&publish.payload)?;
        if self.has_line_end {
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// A payload that is no UTF-8 goes out as `payload_base64`.
fn object(publish: &Publish) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), json!(&*publish.topic));
    match std::str::from_utf8(&publish.payload) {
        Ok(text) => object.insert("payload".to_owned(), json!(text)),
        Err(_) => object.insert(
            "payload_base64".to_owned(),
            json!(STANDARD.encode(&publish.payload)),
        ),
    };
    object.insert("qos".to_owned(), json!(publish.qos as u8));
    object.insert("retain".to_owned(), json!(publish.retain));
    object.insert("dup".to_owned(), json!(publish.dup));
    if let Some(id) = publish.packet_id {
        object.insert("packet_id".to_owned(), json!(id.get()));
    }
    let properties = properties(publish);
    if !properties.is_empty() {
        object.insert("properties".to_owned(), Value::Object(properties));
    }
    Value::Object(object)
}

fn properties(publish: &Publish) -> Map<String, Value> {
    let mut map = Map::new();
    let properties = &publish.properties;
    if let Some(seconds) = properties.message_expiry {
        map.insert("message_expiry".to_owned(), json!(seconds));
    }
    if !properties.subscription_ids.is_empty() {
        map.insert(
            "subscription_ids".to_owned(),
            json!(&properties.subscription_ids[..]),
        );
    }
    let mut user = Vec::new();
    for property in properties.forwarded() {
        let (name, value) = match property {
            ForwardProperty::PayloadFormatUtf8(is_utf8) => ("payload_format_utf8", json!(is_utf8)),
            ForwardProperty::ContentType(text) => ("content_type", json!(text)),
            ForwardProperty::ResponseTopic(topic) => ("response_topic", json!(topic)),
            ForwardProperty::CorrelationData(data) => {
                ("correlation_data_base64", json!(STANDARD.encode(data)))
            }
            ForwardProperty::UserProperty(name, value) => {
                user.push(json!([name, value]));
                continue;
            }
        };
        map.insert(name.to_owned(), value);
    }
    if !user.is_empty() {
        map.insert("user_properties".to_owned(), Value::Array(user));
    }
    map
}

#[cfg(test)]
mod tests {
    use bifrust_mqtt_codec::{ForwardBuilder, PublishProperties, Qos};

    use super::*;

    fn message(payload: &'static [u8]) -> Publish {
        let forward = ForwardBuilder::new()
            .content_type("text/plain")
            .user_property("a", "1")
            .build()
            .unwrap();
        Publish {
            dup: false,
            qos: Qos::AtMostOnce,
            retain: true,
            topic: "t/1".into(),
            packet_id: None,
            payload: payload.into(),
            properties: PublishProperties::from_forward(forward).unwrap(),
        }
    }

    fn printed(printer: &Printer, payload: &'static [u8]) -> String {
        let mut out = Vec::new();
        printer.print(&message(payload), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_as_mosquitto_prints_it() {
        assert_eq!(printed(&Printer::new(false, true, false), b"x"), "x\n");
        assert_eq!(printed(&Printer::new(true, true, false), b"x"), "t/1 x\n");
        assert_eq!(printed(&Printer::new(false, false, false), b"x"), "x");
    }

    #[test]
    fn json_has_payload_and_properties() {
        let printer = Printer::new(false, true, true);
        let object: Value = serde_json::from_str(&printed(&printer, b"x")).unwrap();
        assert_eq!(object["payload"], "x");
        assert_eq!(object["retain"], true);
        assert_eq!(object["properties"]["content_type"], "text/plain");
        assert_eq!(object["properties"]["user_properties"][0][1], "1");
        let object: Value = serde_json::from_str(&printed(&printer, b"\xff")).unwrap();
        assert_eq!(object["payload_base64"], "/w==");
    }
}
