//! Meters in Prometheus' text format.

use std::fmt::Write as _;

use bifrust_model::EventKind;
use bifrust_plugin_api::{BUCKET_BOUNDS, Events, Histogram};

use crate::process::Process;
use crate::registry::{Labels, MeterRegistry, Series};

/// Everything there is to show.
pub(crate) fn render(
    registry: &MeterRegistry,
    events: &Events,
    process: Option<Process>,
) -> String {
    let mut text = String::with_capacity(16 << 10);
    let families = registry.families();
    for (name, family) in &families.by_name {
        for (index, (labels, series)) in family.series.iter().enumerate() {
            if index == 0 {
                head(&mut text, name, kind(series), family.help);
            }
            write_series(&mut text, name, labels, series);
        }
    }
    drop(families);
    write_events(&mut text, events);
    if let Some(process) = process {
        process.write(&mut text);
    }
    text
}

fn kind(series: &Series) -> &'static str {
    match series {
        Series::Counter(_) => "counter",
        Series::Gauge(_) => "gauge",
        Series::Histogram(_) => "histogram",
    }
}

/// The two lines before a family. A counter's name ends in `_total`.
pub(crate) fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let suffix = if kind == "counter" { "_total" } else { "" };
    line(text, format_args!("# HELP {name}{suffix} {help}"));
    line(text, format_args!("# TYPE {name}{suffix} {kind}"));
}

/// One line of the answer.
pub(crate) fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{arguments}"); // writing to a String cannot fail
}

fn write_series(text: &mut String, name: &str, labels: &Labels, series: &Series) {
    match series {
        Series::Counter(counter) => {
            let labels = in_braces(labels, None);
            line(
                text,
                format_args!("{name}_total{labels} {}", counter.value()),
            );
        }
        Series::Gauge(gauge) => {
            let labels = in_braces(labels, None);
            line(text, format_args!("{name}{labels} {}", gauge.value()));
        }
        Series::Histogram(histogram) => write_histogram(text, name, labels, histogram),
    }
}

fn write_histogram(text: &mut String, name: &str, labels: &Labels, histogram: &Histogram) {
    let (counts, sum) = histogram.values();
    let mut total = 0;
    for (index, count) in counts.iter().enumerate() {
        total += count;
        let bound = BUCKET_BOUNDS
            .get(index)
            .map_or_else(|| "+Inf".to_owned(), u64::to_string);
        let labels = in_braces(labels, Some(("le", &bound)));
        line(text, format_args!("{name}_bucket{labels} {total}"));
    }
    let labels = in_braces(labels, None);
    line(text, format_args!("{name}_sum{labels} {sum}"));
    line(text, format_args!("{name}_count{labels} {total}"));
}

fn write_events(text: &mut String, events: &Events) {
    let name = "bifrust_events";
    head(text, name, "counter", "Events since the start, by type.");
    for kind in EventKind::ALL {
        let count = events.count(*kind);
        line(
            text,
            format_args!("{name}_total{{type=\"{kind}\"}} {count}"),
        );
    }
}

fn in_braces(labels: &Labels, last: Option<(&str, &str)>) -> String {
    let all = labels
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .chain(last);
    let mut text = String::new();
    for (name, value) in all {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(name);
        text.push_str("=\"");
        for char in value.chars() {
            match char {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                char => text.push(char),
            }
        }
        text.push('"');
    }
    if !text.is_empty() {
        text.push('}');
    }
    text
}

#[cfg(test)]
mod tests {
    use bifrust_model::{Event, Hlc};
    use bifrust_plugin_api::{Meter, Meters as _};

    use super::*;

    #[test]
    fn meters_are_shown_in_the_text_format() {
        let registry = MeterRegistry::new();
        let counter = Meter::new("bifrust_messages", "Messages.");
        registry.counter(counter.clone().label("qos", "1")).add(5);
        registry.counter(counter.label("qos", "a\"\\\nb")).add(1);
        registry
            .gauge(Meter::new("bifrust_connections", "C."))
            .set(-2);
        let events = Events::new(Vec::new());
        events.emit(EventKind::Kicked, || {
            Event::new(EventKind::Kicked, Hlc::default())
        });
        let text = render(&registry, &events, None);
        for expected in [
            "# HELP bifrust_messages_total Messages.\n# TYPE bifrust_messages_total counter\n",
            "bifrust_messages_total{qos=\"1\"} 5\n",
            "bifrust_messages_total{qos=\"a\\\"\\\\\\nb\"} 1\n",
            "# TYPE bifrust_connections gauge\nbifrust_connections -2\n",
            "bifrust_events_total{type=\"KICKED\"} 1\n",
            "bifrust_events_total{type=\"IDLE\"} 0\n",
        ] {
            assert!(text.contains(expected), "{expected}\nnot in\n{text}");
        }
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let registry = MeterRegistry::new();
        let histogram = registry.histogram(Meter::new("bifrust_ms", "T.").label("a", "b"));
        for value in [1, 2, 40_000] {
            histogram.record(value);
        }
        let text = render(&registry, &Events::new(Vec::new()), None);
        for expected in [
            "bifrust_ms_bucket{a=\"b\",le=\"1\"} 1\n",
            "bifrust_ms_bucket{a=\"b\",le=\"30000\"} 2\n",
            "bifrust_ms_bucket{a=\"b\",le=\"+Inf\"} 3\n",
            "bifrust_ms_sum{a=\"b\"} 40003\nbifrust_ms_count{a=\"b\"} 3\n",
        ] {
            assert!(text.contains(expected), "{expected}\nnot in\n{text}");
        }
    }
}
