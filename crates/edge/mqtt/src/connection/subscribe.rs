//! SUBSCRIBE and UNSUBSCRIBE, one at a time per session: filters are judged, taken into the
//! session, routed, and then answered, so that SUBACK is a promise (contract C2).

use std::num::NonZeroU32;

use bifrust_inbox::{InboxError, Subscribed};
use bifrust_model::{
    EventKind, Qos, RetainHandling, Settings, Subscription, SubscriptionOptions, TopicFilter,
};
use bifrust_mqtt_codec::{ReasonCode, Subscribe, Unsubscribe, Version};
use bifrust_plugin_api::{Access, Action, Answer};

use super::{Ending, Pause, model_qos, protocol_error};
use crate::fault::{Fault, planted};
use crate::mailbox::{Completion, Seat};
use crate::session::acks::AckKind;
use crate::session::filters::Added;
use crate::shard::Shard;
use crate::subscriptions::RouteStep;

/// A SUBSCRIBE or UNSUBSCRIBE that is being answered.
pub(crate) struct FilterRequest {
    pub(super) token: u64,
    is_subscribe: bool,
    items: Vec<Item>,
    /// Permission answers, then routes, that are awaited.
    waiting: usize,
}

/// One filter of it.
struct Item {
    filter: Option<TopicFilter>,
    options: SubscriptionOptions,
    /// The answer, once it is known.
    reason: Option<ReasonCode>,
    is_new: bool,
    /// The shard's filter whose route is awaited.
    route: Option<usize>,
}

impl Item {
    fn refused(reason: ReasonCode) -> Self {
        Self {
            filter: None,
            options: SubscriptionOptions::default(),
            reason: Some(reason),
            is_new: false,
            route: None,
        }
    }

    fn open(filter: TopicFilter, options: SubscriptionOptions) -> Self {
        Self {
            filter: Some(filter),
            options,
            reason: None,
            is_new: false,
            route: None,
        }
    }
}

impl Shard {
    pub(super) fn handle_subscribe(
        &mut self,
        seat: Seat,
        subscribe: Subscribe,
    ) -> Result<(), Ending> {
        let now_ms = self.now_ms;
        let Some(connection) = self.connection(seat) else {
            return Ok(());
        };
        let version = connection.version;
        let Some(session) = connection.session() else {
            return Ok(());
        };
        let settings = session.tenant.settings.load();
        let id = subscribe
            .subscription_id
            .filter(|_| !planted(Fault::SubscriptionIdentifierLost))
            .and_then(NonZeroU32::new);
        let max = settings.max_topic_filters_per_sub as usize;
        let count = subscribe.subscriptions.len();
        let mut items = Vec::with_capacity(count);
        for asked in subscribe.subscriptions {
            let options = SubscriptionOptions {
                qos: model_qos(asked.options.qos),
                no_local: asked.options.no_local,
                retain_as_published: asked.options.retain_as_published,
                retain_handling: RetainHandling::from_number(asked.options.retain_handling as u8)
                    .unwrap_or_default(),
                id,
            };
            if items.len() >= max {
                items.push(Item::refused(ReasonCode::QUOTA_EXCEEDED));
                continue;
            }
            items.push(judge(asked.filter, options, version, &settings)?);
        }
        drop(settings);
        let token = session.acks.wait(
            subscribe.packet_id.get(),
            AckKind::Suback(Vec::new()),
            now_ms,
        );
        if count > max {
            self.emit(seat, EventKind::TooLargeSubscription, |event| {
                event.detail(format!("{count} filters, {max} are allowed"))
            });
        }
        self.ask_filters(seat, token, items, true);
        Ok(())
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        seat: Seat,
        unsubscribe: Unsubscribe,
    ) -> Result<(), Ending> {
        let now_ms = self.now_ms;
        let Some(session) = self.session(seat) else {
            return Ok(());
        };
        let settings = session.tenant.settings.load();
        let max = settings.max_topic_filters_per_sub as usize;
        let count = unsubscribe.filters.len();
        let items: Vec<Item> = unsubscribe
            .filters
            .into_iter()
            .enumerate()
            .map(|(at, filter)| match TopicFilter::new(filter) {
                // 5.0, 3.11.3 knows no code for a quota.
                _ if at >= max => Item::refused(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR),
                Ok(filter) => Item::open(filter, SubscriptionOptions::default()),
                Err(_) => Item::refused(ReasonCode::TOPIC_FILTER_INVALID),
            })
            .collect();
        drop(settings);
        let token = session.acks.wait(
            unsubscribe.packet_id.get(),
            AckKind::Unsuback(Vec::new()),
            now_ms,
        );
        if count > max {
            self.emit(seat, EventKind::TooLargeUnsubscription, |event| {
                event.detail(format!("{count} filters, {max} are allowed"))
            });
        }
        self.ask_filters(seat, token, items, false);
        Ok(())
    }

    /// Asks for permission, filter by filter.
    fn ask_filters(&mut self, seat: Seat, token: u64, mut items: Vec<Item>, is_subscribe: bool) {
        let edge = self.edge.clone();
        self.pause(seat, Pause::Filters);
        let Some(session) = self.session(seat) else {
            return;
        };
        let client = session.client.clone();
        let mut later = Vec::new();
        let mut known = Vec::new();
        for (at, item) in items.iter_mut().enumerate() {
            let (Some(filter), None) = (&item.filter, item.reason) else {
                continue;
            };
            let action = match is_subscribe {
                true => Action::Subscribe {
                    filter: filter.plain(),
                    qos: item.options.qos,
                },
                false => Action::Unsubscribe {
                    filter: filter.plain(),
                },
            };
            match edge.services.auth.access(&client, action) {
                Answer::Now(access) => known.push((at, access)),
                Answer::Later(answer) => later.push((at, answer)),
            }
        }
        session.filter_request = Some(Box::new(FilterRequest {
            token,
            is_subscribe,
            items,
            waiting: later.len(),
        }));
        for (at, access) in known {
            self.decide_filter(seat, at, access);
        }
        if later.is_empty() {
            self.take_filters(seat);
        }
        for (at, answer) in later {
            self.ask(seat, answer, move |access| {
                Completion::FilterAccess(at, access)
            });
        }
    }

    pub(crate) fn filter_access(&mut self, seat: Seat, at: usize, access: Access) {
        self.decide_filter(seat, at, access);
        let Some(request) = self.filter_request(seat) else {
            return;
        };
        request.waiting = request.waiting.saturating_sub(1);
        if request.waiting == 0 {
            self.take_filters(seat);
        }
    }

    fn decide_filter(&mut self, seat: Seat, at: usize, access: Access) {
        let Some(session) = self.session(seat) else {
            return;
        };
        let bypass = session.tenant.settings.load().by_pass_perm_check_error;
        if self.is_granted(seat, access, bypass) {
            return;
        }
        let Some(request) = self.filter_request(seat) else {
            return;
        };
        let is_subscribe = request.is_subscribe;
        let Some(item) = request.items.get_mut(at) else {
            return;
        };
        item.reason = Some(ReasonCode::NOT_AUTHORIZED);
        let filter = item.filter.take();
        if is_subscribe {
            self.emit(seat, EventKind::SubActionDisallow, |event| {
                event.detail(filter.map(|filter| filter.to_string()).unwrap_or_default())
            });
        }
    }

    fn filter_request(&mut self, seat: Seat) -> Option<&mut FilterRequest> {
        self.session(seat)?.filter_request.as_deref_mut()
    }

    /// All permissions are known: the filters go into the session.
    fn take_filters(&mut self, seat: Seat) {
        let Some(session) = self.session(seat) else {
            return;
        };
        let is_durable = session.durable.is_some();
        let Some(request) = &session.filter_request else {
            return;
        };
        match (request.is_subscribe, is_durable) {
            (true, false) => self.subscribe_here(seat),
            (false, false) => self.unsubscribe_here(seat),
            (true, true) => self.subscribe_inbox(seat),
            (false, true) => self.unsubscribe_inbox(seat),
        }
    }

    /// A transient session's subscriptions live in its shard.
    fn subscribe_here(&mut self, seat: Seat) {
        let Some(mut request) = self
            .session(seat)
            .and_then(|session| session.filter_request.take())
        else {
            return;
        };
        let mut steps = Vec::new();
        for item in &mut request.items {
            let (Some(filter), None) = (&item.filter, item.reason) else {
                continue;
            };
            let Some(session) = self.session(seat) else {
                return;
            };
            let tenant = session.tenant.number;
            let max = session.tenant.settings.load().max_topic_filters_per_inbox as usize;
            let filter = &self.subscriptions.own(tenant, filter);
            let Some(session) = self.session(seat) else {
                return;
            };
            let Some(added) = session.subscriptions.add(filter, item.options, max) else {
                item.reason = Some(ReasonCode::QUOTA_EXCEEDED);
                continue;
            };
            item.is_new = added == Added::New;
            let (at, step) = self.add_filter(seat, tenant, filter, item.options);
            match step {
                RouteStep::Nothing => item.reason = Some(granted(item.options.qos)),
                step => {
                    item.route = Some(at);
                    request.waiting += 1;
                    self.subscriptions.wait(at, seat);
                    steps.push((at, step));
                }
            }
        }
        let is_done = request.waiting == 0;
        if let Some(session) = self.session(seat) {
            session.filter_request = Some(request);
        }
        for (at, step) in steps {
            self.step_route(at, step);
        }
        if is_done {
            self.finish_filters(seat);
        } else {
            self.watch_answers(seat);
        }
    }

    /// A route that a SUBACK waits for is there, or cannot be had.
    pub(crate) fn filter_routed(&mut self, seat: Seat, at: usize, failure: Option<ReasonCode>) {
        let Some(session) = self.session(seat) else {
            return;
        };
        let tenant = session.tenant.number;
        let Some(request) = session.filter_request.as_deref_mut() else {
            return;
        };
        let Some(item) = request.items.iter_mut().find(|item| item.route == Some(at)) else {
            return;
        };
        item.route = None;
        request.waiting = request.waiting.saturating_sub(1);
        let is_last = request.waiting == 0;
        let granted = granted(item.options.qos);
        item.reason = Some(failure.unwrap_or(granted));
        if failure.is_some()
            && let Some(filter) = item.filter.take()
        {
            session.subscriptions.remove(&filter);
            // Its route is already being taken out.
            self.remove_filter(seat, tenant, &filter);
            self.emit(seat, EventKind::MatchError, |event| {
                event.detail(filter.to_string())
            });
        }
        if is_last {
            self.finish_filters(seat);
        }
    }

    fn unsubscribe_here(&mut self, seat: Seat) {
        let Some(mut request) = self
            .session(seat)
            .and_then(|session| session.filter_request.take())
        else {
            return;
        };
        for item in &mut request.items {
            let (Some(filter), None) = (&item.filter, item.reason) else {
                continue;
            };
            let Some(session) = self.session(seat) else {
                return;
            };
            if planted(Fault::UnsubscribeIgnored) {
                item.reason = Some(ReasonCode::SUCCESS);
                continue;
            }
            let tenant = session.tenant.number;
            let existed = session.subscriptions.remove(filter);
            if let Some(scans) = &mut session.scans {
                scans.cancel(filter);
            }
            item.reason = Some(unsubscribed(existed));
            if let Some((at, step)) = self.remove_filter(seat, tenant, filter) {
                self.step_route(at, step);
            }
        }
        if let Some(session) = self.session(seat) {
            session.filter_request = Some(request);
        }
        self.finish_filters(seat);
    }

    /// A persistent session's subscriptions are rows of its inbox.
    fn subscribe_inbox(&mut self, seat: Seat) {
        let inbox = self.edge.services.inbox.clone();
        let Some(session) = self.session(seat) else {
            return;
        };
        let max = session.tenant.settings.load().max_topic_filters_per_inbox;
        let reference = session.reference();
        let Some(request) = &session.filter_request else {
            return;
        };
        let subscriptions: Vec<Subscription> = open_items(&request.items)
            .map(|(filter, options)| Subscription {
                filter: filter.clone(),
                options,
            })
            .collect();
        if subscriptions.is_empty() {
            return self.finish_filters(seat);
        }
        if subscriptions.iter().any(|new| new.filter.is_shared()) {
            self.attend_inbox(seat);
        }
        let done = self.reply(seat, Completion::Subscribed);
        inbox.subscribe(&reference, subscriptions, max, done);
        self.watch_answers(seat);
    }

    fn unsubscribe_inbox(&mut self, seat: Seat) {
        let inbox = self.edge.services.inbox.clone();
        let Some(session) = self.session(seat) else {
            return;
        };
        let reference = session.reference();
        let Some(request) = &session.filter_request else {
            return;
        };
        let filters: Vec<TopicFilter> = open_items(&request.items)
            .map(|(filter, _)| filter.clone())
            .collect();
        if let Some(scans) = &mut session.scans {
            for filter in &filters {
                scans.cancel(filter);
            }
        }
        if filters.is_empty() {
            return self.finish_filters(seat);
        }
        let done = self.reply(seat, Completion::Unsubscribed);
        inbox.unsubscribe(&reference, filters, done);
        self.watch_answers(seat);
    }

    pub(crate) fn subscribed(&mut self, seat: Seat, result: Result<Vec<Subscribed>, InboxError>) {
        let outcomes = match result {
            Ok(outcomes) => outcomes,
            Err(error) => return self.filters_failed(seat, error),
        };
        let Some(request) = self.filter_request(seat) else {
            return;
        };
        let open = request
            .items
            .iter_mut()
            .filter(|item| item.reason.is_none());
        for (item, outcome) in open.zip(outcomes) {
            item.is_new = outcome == Subscribed::New;
            item.reason = Some(match outcome {
                Subscribed::New | Subscribed::Replaced => granted(item.options.qos),
                Subscribed::QuotaExceeded => ReasonCode::QUOTA_EXCEEDED,
                Subscribed::Failed => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
            });
        }
        self.finish_filters(seat);
    }

    pub(crate) fn unsubscribed(&mut self, seat: Seat, result: Result<Vec<bool>, InboxError>) {
        let outcomes = match result {
            Ok(outcomes) => outcomes,
            Err(error) => return self.filters_failed(seat, error),
        };
        let Some(request) = self.filter_request(seat) else {
            return;
        };
        let open = request
            .items
            .iter_mut()
            .filter(|item| item.reason.is_none());
        for (item, existed) in open.zip(outcomes) {
            item.reason = Some(unsubscribed(existed));
        }
        self.finish_filters(seat);
    }

    fn filters_failed(&mut self, seat: Seat, error: InboxError) {
        self.emit(seat, EventKind::InboxTransientError, |event| {
            event.detail(error.to_string())
        });
        match error {
            InboxError::Fenced | InboxError::OtherUser => self.end(seat, Ending::taken_over()),
            // No answer: the client asks again on its next connection.
            InboxError::Unknown => self.pause(seat, Pause::Unknown),
            InboxError::Refused => {
                if let Some(request) = self.filter_request(seat) {
                    for item in request.items.iter_mut().filter(|i| i.reason.is_none()) {
                        item.reason = Some(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR);
                    }
                }
                self.finish_filters(seat);
            }
        }
    }

    /// Every filter has its answer.
    fn finish_filters(&mut self, seat: Seat) {
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let is_v5 = connection.is_v5();
        let Some(session) = connection.session() else {
            return;
        };
        let Some(request) = session.filter_request.take() else {
            return;
        };
        let mut reasons: Vec<ReasonCode> = request
            .items
            .iter()
            .map(|item| item.reason.unwrap_or(ReasonCode::UNSPECIFIED_ERROR))
            .map(|reason| match reason.is_error() && !is_v5 {
                // MQTT-3.9.3-2: v3 knows one failure.
                true => ReasonCode::UNSPECIFIED_ERROR,
                false => reason,
            })
            .collect();
        if planted(Fault::CodesReversed) {
            reasons.reverse();
        }
        let (kind, event) = match request.is_subscribe {
            true => (AckKind::Suback(reasons), EventKind::SubAcked),
            false => (AckKind::Unsuback(reasons), EventKind::UnsubAcked),
        };
        session.acks.ready_with(request.token, kind);
        for item in &request.items {
            if item.reason == Some(ReasonCode::TOPIC_FILTER_INVALID) {
                let reason = ReasonCode::TOPIC_FILTER_INVALID.0;
                self.emit(seat, EventKind::InvalidTopicFilter, |event| {
                    event.reason(reason)
                });
            }
        }
        let count = request.items.len();
        self.emit(seat, event, |event| {
            event.detail(format!("{count} filters"))
        });
        self.release_acks(seat);
        if request.is_subscribe {
            for item in request.items {
                let is_granted = item.reason.is_some_and(|reason| !reason.is_error());
                if let (Some(filter), true) = (item.filter, is_granted) {
                    self.start_scan(seat, filter, item.options, item.is_new);
                }
            }
        }
        self.resume(seat, Pause::Filters);
    }
}

fn open_items(items: &[Item]) -> impl Iterator<Item = (&TopicFilter, SubscriptionOptions)> {
    items
        .iter()
        .filter(|item| item.reason.is_none())
        .filter_map(|item| Some((item.filter.as_ref()?, item.options)))
}

fn granted(qos: Qos) -> ReasonCode {
    match qos {
        Qos::AtMostOnce => ReasonCode::GRANTED_QOS_0,
        Qos::AtLeastOnce => ReasonCode::GRANTED_QOS_1,
        Qos::ExactlyOnce => ReasonCode::GRANTED_QOS_2,
    }
}

fn unsubscribed(existed: bool) -> ReasonCode {
    match existed {
        true => ReasonCode::SUCCESS,
        false => ReasonCode::NO_SUBSCRIPTION_EXISTED,
    }
}

/// What the standard and the tenant's settings say about one filter.
fn judge(
    text: bytestring::ByteString,
    options: SubscriptionOptions,
    version: Version,
    settings: &Settings,
) -> Result<Item, Ending> {
    let Ok(filter) = TopicFilter::new(text) else {
        return Ok(Item::refused(ReasonCode::TOPIC_FILTER_INVALID));
    };
    if filter.is_shared() {
        if options.no_local && version == Version::V5 {
            // MQTT-3.8.3-4.
            return Err(protocol_error("no-local on a shared subscription"));
        }
        if !settings.shared_subscription_enabled {
            return Ok(Item::refused(
                ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
            ));
        }
    }
    if settings.topic_limits().check(filter.plain()).is_err() {
        return Ok(Item::refused(ReasonCode::TOPIC_FILTER_INVALID));
    }
    if filter.has_wildcard() && !settings.wildcard_subscription_enabled {
        return Ok(Item::refused(
            ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
        ));
    }
    if options.id.is_some() && !settings.subscription_identifier_enabled {
        return Ok(Item::refused(
            ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
        ));
    }
    Ok(Item::open(filter, options))
}
