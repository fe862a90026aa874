//! Durability: the broker is killed in the middle of its work, with and without its unsynced
//! writes. `BIFRUST_CHAOS_ROUNDS` sets the number of kills of each kind, `BIFRUST_CHAOS_SEED`
//! repeats a run's choices.

use std::env;
use std::time::{Duration, Instant};

use bifrust_e2e::chaos::{InDoubt, Loss, Plan, Report, run};
use bifrust_e2e::wire::{self, AckKind};
use bifrust_e2e::{Broker, Connect, Publish, Version};

fn number(name: &str, default: u64) -> u64 {
    env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}

fn plan(loss: Loss) -> Plan {
    Plan {
        rounds: number("BIFRUST_CHAOS_ROUNDS", 3) as u32,
        seed: number("BIFRUST_CHAOS_SEED", 20_260_801),
        loss,
        in_doubt: InDoubt::AskedAgain,
        env: Vec::new(),
    }
}

fn kept(plan: &Plan) -> Report {
    let report = run(plan);
    println!("{:?}, seed {}: {report}", plan.loss, plan.seed);
    assert!(report.violations.is_empty(), "seed {}: {report}", plan.seed);
    assert_eq!(report.rounds, plan.rounds);
    assert!(report.acknowledged > 0 && report.delivered > report.acknowledged);
    assert!(report.slowest_restart < Duration::from_secs(5), "{report}");
    report
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    kept(&plan(Loss::Process));
}

#[test]
fn nothing_acknowledged_is_lost_with_the_unsynced_writes() {
    let report = kept(&plan(Loss::Unsynced));
    assert!(
        report.discarded > 0,
        "nothing was unsynced: the test proves nothing: {report}"
    );
}

#[test]
fn what_a_kill_left_in_doubt_of_subscriptions_stays_as_it_is_found() {
    let mut in_doubt = 0;
    for loss in [Loss::Process, Loss::Unsynced] {
        let report = kept(&Plan {
            in_doubt: InDoubt::Observed,
            ..plan(loss)
        });
        in_doubt += report.in_doubt;
    }
    assert!(
        in_doubt > 0,
        "nothing was in doubt: the test proves nothing"
    );
}

#[test]
fn without_fsync_the_loss_is_found() {
    let mut plan = plan(Loss::Unsynced);
    plan.rounds = 20;
    plan.env
        .push(("BIFRUST_TEST_NO_FSYNC".to_owned(), "1".to_owned()));
    let report = run(&plan);
    println!("without fsync: {report}");
    assert!(
        !report.violations.is_empty(),
        "this test would not notice lost writes: {report}"
    );
}

#[test]
fn a_hundred_thousand_queued_messages_do_not_delay_the_start() {
    const SESSIONS: usize = 10;
    const MESSAGES: u16 = 10_000;
    let mut broker = Broker::start();
    let session = |index| Connect::persistent(Version::V5, format!("queue {index}"));
    for index in 0..SESSIONS {
        let mut client = broker.connect(&session(index));
        client.subscribe("queue/#", 1);
        client.disconnect();
    }
    let mut writer = broker.connect(&Connect::v5("writer"));
    for batch in 0..MESSAGES / 500 {
        let mut bytes = Vec::new();
        for index in 0..500 {
            let text = format!("{:064}", batch * 500 + index);
            let publish = Publish::new("queue/x", text).qos(1).id(index + 1);
            bytes.extend(publish.encode(Version::V5));
        }
        writer.send(&bytes);
        for index in 0..500 {
            writer.expect_ack(AckKind::Puback, index + 1);
        }
    }
    broker.kill();
    let start = Instant::now();
    broker.restart();
    let mut writer = broker.connect(&Connect::v5("writer"));
    writer.publish(&Publish::new("queue/last", "last").qos(1));
    let waited = start.elapsed();
    println!("serving {waited:?} after kill -9 with 100,000 messages queued");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    for index in 0..SESSIONS {
        let mut client = broker.connect(&session(index).receive_maximum(500));
        assert!(client.is_present);
        for number in 0..MESSAGES {
            let publish = client.next_publish();
            assert_eq!(publish.text(), format!("{number:064}"));
            client.send(&wire::ack(AckKind::Puback, publish.id));
        }
    }
}
