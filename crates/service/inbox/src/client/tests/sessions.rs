//! Who has a session, and who has no say in it.

use super::*;

#[test]
fn a_transient_client_leaves_no_rows() {
    let bed = Bed::new();
    let open = Open {
        expiry_seconds: 0,
        ..bed.open("a")
    };
    let (session, opened) = bed.attach(open);
    assert!(!opened.is_durable && !opened.session_present);
    bed.detach(&session, Cause::Lost, None);
    let commands = bed.node.counts().commands;
    assert_eq!(commands, 0);
}

#[test]
fn a_transient_client_finds_its_durable_session_also_after_a_restart() {
    let bed = Bed::new();
    let (session, _) = bed.attach(bed.open("a"));
    bed.detach(&session, Cause::Normal, None);
    let bed = bed.restart();
    let transient = |bed: &Bed| Open {
        expiry_seconds: 0,
        ..bed.open("a")
    };
    let (session, opened) = bed.attach(transient(&bed));
    assert!(opened.session_present && opened.is_durable);
    bed.detach(&session, Cause::Lost, None);
    let (_, opened) = bed.attach(transient(&bed));
    assert!(!opened.session_present && !opened.is_durable);
    let commands = bed.node.counts().commands;
    let (_, opened) = bed.attach(transient(&bed));
    assert!(!opened.is_durable);
    // The sweep of the ended session may go on meanwhile.
    assert!(bed.node.counts().commands <= commands + 1);
}

#[test]
fn a_fenced_connection_has_no_say() {
    let bed = Bed::new();
    let (old, _) = bed.attach(bed.open("a"));
    let (new, _) = bed.attach(bed.open("a"));
    let fenced = Err(InboxError::Fenced);
    assert_eq!(
        wait(|done| bed.inbox.settle(&old, vec![Settle::Done(1)], done)),
        fenced
    );
    assert_eq!(
        wait(|done| bed.inbox.release_inbound(&old, 1, done)),
        fenced
    );
    let fetched = wait(|done| bed.inbox.fetch(&old, 1, ALL, done));
    assert_eq!(fetched, Err(InboxError::Fenced));
    let filter = TopicFilter::new("t".into()).unwrap();
    let removed = wait(|done| bed.inbox.unsubscribe(&old, vec![filter], done));
    assert_eq!(removed, Err(InboxError::Fenced));
    assert!(wait(|done| bed.inbox.fetch(&new, 1, ALL, done)).is_ok());
}
