//! Subscriptions and their routes, whenever the process ends.

use super::*;

#[test]
fn subscriptions_have_routes_before_the_answer_and_lose_them_first() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    assert_eq!(bed.subscribe(&session, "t"), [Subscribed::New]);
    let route = ("a".to_owned(), opened.incarnation, "t".to_owned());
    assert!(bed.routes.stand().contains(&route));
    assert_eq!(bed.subscribe(&session, "t"), [Subscribed::Replaced]);
    let filters = ["t", "u"].map(|filter| TopicFilter::new(filter.into()).unwrap());
    let existed = wait(|done| bed.inbox.unsubscribe(&session, filters.into(), done));
    assert_eq!(existed, Ok(vec![true, false]));
    assert!(bed.routes.stand().is_empty());
}

#[test]
fn a_subscription_without_a_route_is_not_there() {
    let bed = Bed::new();
    let (session, _) = bed.attach(bed.open("a"));
    *bed.routes.refuses.lock().unwrap() = Some(InboxError::Refused);
    assert_eq!(bed.subscribe(&session, "t"), [Subscribed::Failed]);
    *bed.routes.refuses.lock().unwrap() = None;
    assert_eq!(bed.subscribe(&session, "t"), [Subscribed::New]);
}

/// A session's filters by its rows and by its routes, once each.
fn both(bed: &Bed) -> (SessionRef, Vec<String>, Vec<String>) {
    let (session, opened) = bed.attach(bed.open("a"));
    let rows = opened.subscriptions.into_iter();
    let mut rows: Vec<String> = rows.map(|row| row.filter.to_string()).collect();
    let mut routes: Vec<String> = (bed.routes.stand().iter())
        .map(|(_, _, filter)| filter.clone())
        .collect();
    rows.sort_unstable();
    routes.sort_unstable();
    (session, rows, routes)
}

/// The changes that a client may be making when the process dies.
#[derive(Clone, Copy, Debug)]
enum Doubt {
    Subscribe,
    Unsubscribe,
}

#[test]
fn after_a_crash_at_any_point_a_change_is_there_or_not_and_stays_so() {
    const FILTERS: [&str; 3] = ["t", "u", "v"];
    for doubt in [Doubt::Subscribe, Doubt::Unsubscribe] {
        for makes_last in [false, true] {
            for changes in 1..=FILTERS.len() {
                let bed = Bed::new();
                let (session, _) = bed.attach(bed.open("a"));
                bed.subscribe(&session, "x");
                if matches!(doubt, Doubt::Unsubscribe) {
                    wait(|done| bed.begin_subscribe(&session, &FILTERS, done)).unwrap();
                }
                *bed.routes.dies_after.lock().unwrap() = Some((changes, makes_last));
                let (tell, told) = mpsc::channel::<()>();
                match doubt {
                    Doubt::Subscribe => {
                        let unheard = Box::new(move |_| drop(tell));
                        bed.begin_subscribe(&session, &FILTERS, unheard);
                    }
                    Doubt::Unsubscribe => {
                        let unheard = Box::new(move |_| drop(tell));
                        let filters = filters(&FILTERS);
                        bed.inbox.unsubscribe(&session, filters, unheard);
                    }
                }
                // The last change cuts off its answer, and with it all that follows.
                assert!(told.recv().is_err());
                *bed.routes.dies_after.lock().unwrap() = None;
                let case = format!("{doubt:?}, {changes}, {makes_last}");

                let bed = bed.restart();
                let (session, rows, routes) = both(&bed);
                let expected: &[&str] = match doubt {
                    Doubt::Subscribe => &["t", "u", "v", "x"],
                    Doubt::Unsubscribe => &["x"],
                };
                let both_ways = (to_strings(expected), to_strings(expected));
                assert_eq!((rows, routes), both_ways, "{case}");

                // Other changes and other ends of the process leave it as it is.
                bed.subscribe(&session, "y");
                let expected = [expected, &["y"]].concat();
                let bed = bed.restart();
                let (_, rows, routes) = both(&bed);
                assert_eq!(
                    (rows, routes),
                    (to_strings(&expected), to_strings(&expected))
                );
                bed.inbox.stop();
            }
        }
    }
}

fn to_strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn an_unconfirmed_change_is_settled_before_start_returns() {
    let bed = Bed::new();
    let (session, _) = bed.attach(bed.open("a"));
    bed.subscribe(&session, "t");
    *bed.routes.refuses.lock().unwrap() = Some(InboxError::Refused);
    let ended = wait(|done| bed.inbox.unsubscribe(&session, filters(&["t"]), done));
    assert_eq!(ended, Err(InboxError::Refused));
    assert_eq!(
        bed.routes.stand().len(),
        1,
        "its route could not be removed"
    );
    *bed.routes.refuses.lock().unwrap() = None;
    let bed = bed.restart();
    assert!(bed.routes.stand().is_empty());
}

#[test]
fn what_could_not_be_settled_is_tried_again() {
    let bed = Bed::new();
    let (session, _) = bed.attach(bed.open("a"));
    bed.subscribe(&session, "t");
    let changes = bed.routes.listen();
    *bed.routes.refuses.lock().unwrap() = Some(InboxError::Refused);
    let ended = wait(|done| bed.inbox.unsubscribe(&session, filters(&["t"]), done));
    assert_eq!(ended, Err(InboxError::Refused));
    *bed.routes.refuses.lock().unwrap() = None;
    assert_eq!(changes.recv().unwrap(), 0);
    assert_eq!(bed.subscribe(&session, "t"), [Subscribed::New]);
    assert_eq!(bed.routes.stand().len(), 1);
}

#[test]
fn a_start_that_cannot_settle_everything_goes_on_and_tries_later() {
    let bed = Bed::new();
    let (session, _) = bed.attach(bed.open("a"));
    *bed.routes.dies_after.lock().unwrap() = Some((1, false));
    let (tell, told) = mpsc::channel::<()>();
    bed.begin_subscribe(&session, &["t"], Box::new(move |_| drop(tell)));
    assert!(told.recv().is_err());
    *bed.routes.dies_after.lock().unwrap() = None;
    *bed.routes.refuses.lock().unwrap() = Some(InboxError::Refused);
    let changes = bed.routes.listen();
    let bed = bed.restart();
    assert!(bed.routes.stand().is_empty());
    *bed.routes.refuses.lock().unwrap() = None;
    assert_eq!(changes.recv().unwrap(), 1);
}

#[test]
fn an_ended_session_loses_its_routes_and_its_rows() {
    let bed = Bed::new();
    let (session, _) = bed.attach(bed.open("a"));
    bed.subscribe(&session, "t");
    let changes = bed.routes.listen();
    let clean = Open {
        clean_start: true,
        ..bed.open("a")
    };
    let (_, opened) = bed.attach(clean);
    assert!(!opened.session_present && opened.subscriptions.is_empty());
    assert_eq!(changes.recv().unwrap(), 0);
}
