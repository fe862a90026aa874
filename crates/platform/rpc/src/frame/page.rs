//! The tables of `docs/protocol-rpc.md` are what the code says. `BIFRUST_BLESS=1` writes them anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;

use super::tests::bytes_of;
use super::*;

const BEGIN: &str = "<!-- generated: BIFRUST_BLESS=1 cargo test -p bifrust-rpc page -->\n";
const END: &str = "<!-- end -->\n";

fn fields(kind: Kind) -> &'static str {
    match kind {
        Kind::Request | Kind::OneWay | Kind::Open => {
            "instance u32, service u16, method u16, header length u16, timeout in ms u32, lane u32, total u32"
        }
        Kind::Answer => "status u16, header length u16, total u32",
        Kind::Item => "header length u16",
        Kind::End => "status u16, header length u16",
        Kind::Cancel => "status u16",
        Kind::Credit => "bytes u32",
        Kind::Part | Kind::Ping | Kind::Pong | Kind::Leave => "",
    }
}

fn example(kind: Kind) -> Frame {
    let (id, side) = (0x0102, Side::Asking);
    let (header, payload) = (Bytes::from_static(b"h"), Bytes::from_static(b"abc"));
    let call = |start| {
        Frame::Call(Call {
            start,
            id,
            priority: Priority::Data,
            target: Target {
                service: 3,
                instance: 4,
                method: 5,
            },
            timeout_ms: 1000,
            lane: 6,
            total: 3,
            header: header.clone(),
            payload: payload.clone(),
        })
    };
    match kind {
        Kind::Request => call(Start::Request),
        Kind::OneWay => call(Start::OneWay),
        Kind::Open => call(Start::Open),
        Kind::Answer => Frame::Answer(Answer {
            id,
            priority: Priority::Data,
            status: 0,
            total: 3,
            header,
            payload,
        }),
        Kind::Part => Frame::Part { id, side, payload },
        Kind::Item => Frame::Item {
            id,
            side,
            header,
            payload,
        },
        Kind::End => Frame::End {
            id,
            side,
            status: 0,
            header,
        },
        Kind::Cancel => Frame::Cancel {
            id,
            side,
            status: 1,
        },
        Kind::Credit => Frame::Credit {
            id: 0,
            side: Side::Answering,
            priority: Priority::Data,
            bytes: 65536,
        },
        Kind::Ping => Frame::Ping { id },
        Kind::Pong => Frame::Pong { id },
        Kind::Leave => Frame::Leave,
    }
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

fn tables() -> String {
    let mut text =
        String::from("| Kind | Number | Fixed fields, in order | Example |\n|---|---|---|---|\n");
    for kind in Kind::ALL {
        let frame = example(kind);
        assert_eq!(frame.kind(), kind);
        let bytes = hex(&bytes_of(&frame));
        let fields = fields(kind);
        let _ = writeln!(text, "| {kind:?} | {} | {fields} | `{bytes}` |", kind as u8);
    }
    text.push_str("\n| Bound | Bytes |\n|---|---|\n");
    for (name, bytes) in [
        ("header of a message", HEADER_MAX),
        ("payload in one frame", PAYLOAD_MAX),
        ("one frame, its length field included", FRAME_MAX),
    ] {
        let _ = writeln!(text, "| {name} | {bytes} |");
    }
    text
}

#[test]
fn the_page_of_the_protocol_is_true() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../docs/protocol-rpc.md");
    let known = std::fs::read_to_string(&file).expect("the page is there");
    let (before, rest) = known.split_once(BEGIN).expect("a table begins");
    let (table, after) = rest.split_once(END).expect("it ends");
    let seen = tables();
    if std::env::var_os("BIFRUST_BLESS").is_some() {
        std::fs::write(&file, format!("{before}{BEGIN}{seen}{END}{after}"))
            .expect("docs are written");
        return;
    }
    assert_eq!(table, seen, "BIFRUST_BLESS=1 writes the page anew");
}
