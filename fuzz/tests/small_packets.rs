//! The codecs side by side over all small packets of their kinds: what a fuzzer might need long for.

use bifrust_fuzz::find;

/// Packets up to their properties, and what follows them.
const FRAMES: [(u8, &[u8], &[u8]); 16] = [
    (
        0x10,
        &[0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60],
        &[0, 1, b'c'],
    ),
    (0x20, &[0, 0], &[]),
    (0x20, &[0, 0x86], &[]),
    (0x30, &[0, 1, b't'], b"x"),
    (0x30, &[0, 0], b"x"),
    (0x32, &[0, 1, b't', 0, 1], b"x"),
    (0x40, &[0, 1, 0], &[]),
    (0x50, &[0, 1, 0], &[]),
    (0x62, &[0, 1, 0], &[]),
    (0x70, &[0, 1, 0], &[]),
    (0x82, &[0, 1], &[0, 1, b'f', 0]),
    (0x90, &[0, 1], &[0]),
    (0xA2, &[0, 1], &[0, 1, b'f']),
    (0xB0, &[0, 1], &[0]),
    (0xE0, &[0], &[]),
    (0xF0, &[0x18], &[]),
];

/// Values of properties of every type, and some that are of none.
const VALUES: [&[u8]; 24] = [
    &[],
    &[0],
    &[1],
    &[2],
    &[0xFF],
    &[0, 0],
    &[0, 1],
    &[0xFF, 0xFF],
    &[0x80, 0x01],
    &[0x80, 0],
    &[0xFF, 0xFF, 0xFF, 0x7F],
    &[0, 0, 0, 0],
    &[0, 0, 0, 1],
    &[0xFF, 0xFF, 0xFF, 0xFF],
    &[0, 1, b'a'],
    &[0, 1, b'+'],
    &[0, 3, b'a', b'/', b'#'],
    &[0, 1, 0],
    &[0, 1, 0xFF],
    &[0, 3, 0xEF, 0xBB, 0xBF],
    &[0, 0, 0, 0, 0],
    &[0, 1, b'a', 0, 1, b'b'],
    &[0, 1, b'a', 0, 1, 0],
    &[0, 1, b'a', 0, 9],
];

/// Shows a packet if its check panics.
struct Shown<'a>(&'a str, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}: {:02x?}", self.0, self.1);
        }
    }
}

fn check(name: &str, first: u8, body: &[u8]) {
    let mut packet = vec![first, u8::try_from(body.len()).expect("a small packet")];
    packet.extend_from_slice(body);
    let target = find(name).expect("a target");
    let _shown = Shown(name, &packet);
    (target.check)(&packet);
}

fn check_v5(first: u8, body: &[u8]) {
    check("differential_v5", first, body);
    check("codec_v5", first, body);
}

#[test]
fn every_property_in_every_packet() {
    // In AUTH and CONNECT nothing else counts without a method.
    let method = [0x15, 0, 1, b'm'];
    for (first, head, tail) in FRAMES {
        for id in 0..=0xFF {
            for value in VALUES {
                let property = [&[id], value].concat();
                for properties in [
                    property.clone(),
                    [&property[..], &property].concat(),
                    [&method[..], &property].concat(),
                ] {
                    let len = [u8::try_from(properties.len()).expect("short")];
                    check_v5(first, &[head, &len, &properties, tail].concat());
                }
            }
        }
    }
}

#[test]
fn every_property_of_a_will() {
    let head = [0, 4, b'M', b'Q', b'T', b'T', 5, 6, 0, 60, 0, 0, 1, b'c'];
    for id in 0..=0xFF {
        for value in VALUES {
            let property = [&[id], value].concat();
            for properties in [property.clone(), [&property[..], &property].concat()] {
                let len = [u8::try_from(properties.len()).expect("short")];
                let tail = [0, 1, b'w', 0, 1, b'x'];
                check_v5(0x10, &[&head[..], &len, &properties, &tail].concat());
            }
        }
    }
}

#[test]
fn every_code_in_every_packet() {
    for first in 0x10..=0xFF {
        for code in 0..=0xFF {
            for body in [
                &[code][..],
                &[code, 0],
                &[0, code],
                &[0, code, 0],
                &[1, code, 0],
                &[0, 1, code],
                &[0, 1, code, 0],
                &[0, 1, 0, code],
                &[0, 1, 0, 0, code],
                &[0, 1, 0, 1, b'f', code],
                &[0, 1, 0, 0, 1, b'f', code],
                &[code, 4, 0x15, 0, 1, b'm'],
            ] {
                check_v5(first, body);
                check("differential_v3", first, body);
                check("codec_v311", first, body);
                check("codec_v31", first, body);
            }
        }
    }
}

#[test]
fn every_flag_of_connect() {
    for level in 0..=6 {
        for flags in 0..=0xFF {
            let name: &[u8] = match level {
                3 => b"\0\x06MQIsdp",
                _ => b"\0\x04MQTT",
            };
            for tail in [
                &[0, 1, b'c'][..],
                &[0, 1, b'c', 0, 1, b'w', 0, 1, b'x'],
                &[0, 1, b'c', 0, 1, b'w', 0, 1, b'x', 0, 1, b'u', 0, 1, b'p'],
                &[0, 1, b'c', 0, 0, 1, b'w', 0, 1, b'x'],
                &[
                    0, 1, b'c', 0, 0, 1, b'w', 0, 1, b'x', 0, 1, b'u', 0, 1, b'p',
                ],
                &[0, 1, b'c', 0, 1, b'u'],
                &[0, 1, b'c', 0, 1, b'u', 0, 1, b'p'],
                &[0, 0],
            ] {
                let head = [name, &[level, flags, 0, 60]].concat();
                check("differential_v3", 0x10, &[&head[..], tail].concat());
                check_v5(0x10, &[&head[..], tail].concat());
                check_v5(0x10, &[&head[..], &[0], tail].concat());
            }
        }
    }
}
