//! Listing as object stores do it, for stores that have no listing of their own.
//!
//! A page token is the least text at which the next page may begin. It needs no memory of the listing, and stays right when
//! objects come and go between two pages.

use super::{ListPage, ListRequest, ObjectMeta, PageToken};
use crate::model::time::Timestamp;

/// The least key that may appear on this page.
pub(super) fn first(request: &ListRequest) -> String {
    let first = match (&request.token, &request.start_after) {
        (Some(PageToken(first)), _) => first.clone(),
        (None, Some(after)) => next_key(after),
        (None, None) => String::new(),
    };
    first.max(request.prefix.clone())
}

/// The text that stands for a key below the request's prefix, if the key goes on beyond the delimiter.
pub(super) fn common_prefix<'k>(request: &ListRequest, key: &'k str) -> Option<&'k str> {
    let delimiter = request.delimiter?;
    let rest = key.strip_prefix(&request.prefix)?;
    let end = rest.find(delimiter)? + delimiter.len_utf8();
    key.get(..request.prefix.len() + end)
}

/// The least text greater than this one.
fn next_key(key: &str) -> String {
    format!("{key}\0")
}

/// The least text greater than every one that begins like this.
pub(super) fn next_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// A page that is being filled.
pub(super) struct Filling<'r> {
    request: &'r ListRequest,
    limit: usize,
    page: ListPage,
    next: String,
}

/// What the lister does after an entry.
pub(super) enum Then {
    /// Goes on with the first key not less than this.
    From(String),
    /// Stops: the page is full, or nothing can follow.
    Stop,
}

impl<'r> Filling<'r> {
    pub(super) fn new(request: &'r ListRequest, page_size: usize, date: Timestamp) -> Self {
        let page = ListPage {
            objects: Vec::new(),
            prefixes: Vec::new(),
            next: None,
            date,
        };
        Self {
            request,
            limit: request.limit.unwrap_or(page_size).clamp(1, page_size),
            page,
            next: first(request),
        }
    }

    /// Takes the next key, which is not less than the last answer. `meta` is asked only for what is shown as an object; it is
    /// `None` for one that has gone meanwhile.
    pub(super) fn take<E>(
        &mut self,
        key: &str,
        meta: impl FnOnce() -> Result<Option<ObjectMeta>, E>,
    ) -> Result<Then, E> {
        if self.page.objects.len() + self.page.prefixes.len() == self.limit {
            self.page.next = Some(PageToken(self.next.clone()));
            return Ok(Then::Stop);
        }
        if let Some(prefix) = common_prefix(self.request, key) {
            self.page.prefixes.push(prefix.to_owned());
            let Some(next) = next_prefix(prefix) else {
                return Ok(Then::Stop);
            };
            self.next = next;
        } else {
            self.page.objects.extend(meta()?);
            self.next = next_key(key);
        }
        Ok(Then::From(self.next.clone()))
    }

    pub(super) fn finish(self) -> ListPage {
        self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_never_begins_before_its_prefix() {
        let request = ListRequest {
            start_after: Some("a/1".to_owned()),
            ..ListRequest::below("b/")
        };
        assert_eq!(first(&request), "b/");
        let request = ListRequest {
            start_after: Some("b/1".to_owned()),
            ..ListRequest::below("b/")
        };
        assert_eq!(first(&request), "b/1\0");
    }

    #[test]
    fn nothing_lies_between_a_prefix_and_what_follows_it() {
        assert_eq!(next_prefix("a/").as_deref(), Some("a0"));
        assert_eq!(next_prefix("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
        assert_eq!(next_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(next_prefix("\u{10ffff}"), None);
    }
}
