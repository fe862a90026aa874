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

/// Edits from one word to the other: insertions, deletions, replacements, swaps of neighbours.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            let has_neighbours = i > 0 && (j > 0 || cfg!(planted_bugs));
            if has_neighbours && from[i - 1] == *b && *a == to[j - 1] {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_if_it_is_near() {
        let names = ["MaxTopicLength", "MaxTopicLevels", "tcp"];
        assert_eq!(nearest("MaxTopicLenght", names), Some("MaxTopicLength"));
        assert_eq!(nearest("max_topic_levels", names), Some("MaxTopicLevels"));
        assert_eq!(nearest("tpc", names), Some("tcp"));
        assert_eq!(nearest("pct", names), None);
        assert_eq!(nearest("tc", names), Some("tcp"));
        assert_eq!(nearest("colour", names), None);
    }
}
