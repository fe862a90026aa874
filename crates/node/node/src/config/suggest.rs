//! What somebody may have meant.

/// The candidate nearest to `word`, if one is near enough to be meant. Case, `_` and `-` count for
/// nothing: `max_topic_length` is `MaxTopicLength`.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = plain(word);
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The word as far as it counts for comparisons.
pub(super) fn plain(word: &str) -> String {
    word.chars()
        .filter(|char| !matches!(char, '_' | '-'))
        .flat_map(char::to_lowercase)
        .take(80)
        .collect()
}

/// Edits from one word to the other: insertions, deletions, replacements.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, from) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, to) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_if_it_is_near() {
        let names = ["MaxTopicLength", "MaxTopicLevels", "tcp"];
        assert_eq!(nearest("MaxTopicLenght", names), Some("MaxTopicLength"));
        assert_eq!(nearest("max_topic_levels", names), Some("MaxTopicLevels"));
        assert_eq!(nearest("tpc", names), None);
        assert_eq!(nearest("tc", names), Some("tcp"));
        assert_eq!(nearest("colour", names), None);
    }
}
