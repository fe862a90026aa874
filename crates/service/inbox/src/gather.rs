//! Many calls, one answer.

use std::sync::{Arc, Mutex, PoisonError};

use bifrust_kv::Then;

/// Calls in flight at once.
const CHUNK: usize = 128;

/// Starts one item's call.
pub(crate) type Start<I, T> = Arc<dyn Fn(I, Then<T>) + Send + Sync>;

/// Makes a call for each item, a bounded number at a time; `done` gets the answers in the order of
/// the items.
pub(crate) fn gather<I, T>(items: Vec<I>, start: Start<I, T>, done: Then<Vec<T>>)
where
    I: Send + 'static,
    T: Send + 'static,
{
    next_chunk(items.into_iter(), Vec::new(), start, done);
}

fn next_chunk<I, T>(
    mut items: std::vec::IntoIter<I>,
    mut answers: Vec<T>,
    start: Start<I, T>,
    done: Then<Vec<T>>,
) where
    I: Send + 'static,
    T: Send + 'static,
{
    let chunk: Vec<I> = items.by_ref().take(CHUNK).collect();
    if chunk.is_empty() {
        return done(answers);
    }
    let go_on = start.clone();
    let then: Then<Vec<T>> = Box::new(move |chunk| {
        answers.extend(chunk);
        next_chunk(items, answers, go_on, done);
    });
    let waiting = Arc::new(Mutex::new(Waiting {
        left: chunk.len(),
        answers: chunk.iter().map(|_| None).collect(),
        then: Some(then),
    }));
    for (at, item) in chunk.into_iter().enumerate() {
        let waiting = waiting.clone();
        start(
            item,
            Box::new(move |answer| Waiting::take(&waiting, at, answer)),
        );
    }
}

struct Waiting<T> {
    left: usize,
    answers: Vec<Option<T>>,
    then: Option<Then<Vec<T>>>,
}

impl<T> Waiting<T> {
    fn take(waiting: &Mutex<Self>, at: usize, answer: T) {
        let finished = {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.answers[at] = Some(answer);
            waiting.left -= 1;
            let is_last = waiting.left == 0;
            let then = is_last.then(|| waiting.then.take()).flatten();
            then.map(|then| (then, std::mem::take(&mut waiting.answers)))
        };
        if let Some((then, answers)) = finished {
            then(answers.into_iter().flatten().collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use bifrust_kv::testing::wait;

    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_items() {
        for count in [0, 1, CHUNK, 3 * CHUNK + 7] {
            let answers = wait(|done| {
                let held: Mutex<Option<(u64, Then<u64>)>> = Mutex::default();
                let start: Start<u64, u64> = Arc::new(move |item, then: Then<u64>| {
                    // Pairs are answered in reverse.
                    let before = held.lock().unwrap().take();
                    match before {
                        None if item % 2 == 0 && item + 1 < count as u64 => {
                            *held.lock().unwrap() = Some((item, then));
                        }
                        None => then(item * 2),
                        Some((first, first_then)) => {
                            then(item * 2);
                            first_then(first * 2);
                        }
                    }
                });
                gather((0..count as u64).collect(), start, done);
            });
            let expected: Vec<u64> = (0..count as u64).map(|item| item * 2).collect();
            assert_eq!(answers, expected);
        }
    }
}
