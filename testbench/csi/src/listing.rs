//! Lists in pages.

use tonic::Status;

use crate::answer::Answer;

/// How a token begins; the last id of the page before follows.
const AFTER: &str = "after:";

/// One page of items that are sorted by id, and the token of the next; it is empty after the last.
pub(crate) fn page<T>(
    items: Vec<T>,
    id: impl Fn(&T) -> String,
    most: i32,
    token: &str,
) -> Answer<(Vec<T>, String)> {
    let most = usize::try_from(most)
        .map_err(|_negative| Status::invalid_argument("max_entries is negative"))?;
    let mut items = items;
    if !token.is_empty() {
        let wrong = || Status::aborted(format!("`{token}` is no token of a list"));
        let after = token.strip_prefix(AFTER).ok_or_else(wrong)?;
        items.retain(|item| id(item).as_str() > after);
    }
    let is_cut = most != 0 && items.len() > most;
    if is_cut {
        items.truncate(most);
    }
    let last = items.last().filter(|_| is_cut);
    let next = last.map(|last| format!("{AFTER}{}", id(last))).unwrap_or_default();
    Ok((items, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paged(items: &[&'static str], most: i32, token: &str) -> (Vec<&'static str>, String) {
        page(items.to_vec(), |item| (*item).to_owned(), most, token).unwrap()
    }

    #[test]
    fn pages_follow_each_other_also_when_items_go_between_them() {
        assert_eq!(paged(&["a", "b", "c"], 0, ""), (vec!["a", "b", "c"], String::new()));
        let (first, token) = paged(&["a", "b", "c"], 2, "");
        assert_eq!(first, ["a", "b"]);
        assert_eq!(paged(&["a", "c"], 2, &token), (vec!["c"], String::new()));
        assert_eq!(paged(&[], 2, &token), (vec![], String::new()));
    }

    #[test]
    fn a_token_of_others_is_refused() {
        let refusal = page(vec!["a"], |item| (*item).to_owned(), 1, "7").unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::Aborted);
        let refusal = page(vec!["a"], |item| (*item).to_owned(), -1, "").unwrap_err();
        assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
    }
}
