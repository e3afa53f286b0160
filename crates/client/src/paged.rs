//! Lists that come page after page.

use crate::Error;
use futures::{Stream, TryStreamExt};

/// The items of all pages. `page` answers the page behind a cursor and the cursor of the next one.
/// The list is over with a cursor that is not above the one before: the last page has none, and one
/// that does not move would go on for ever.
///
/// # Cancel safety
/// Dropped between two items, it asks for nothing more.
pub(crate) fn paged<C, T, F>(
    page: impl Fn(C) -> F + Send,
) -> impl Stream<Item = Result<T, Error>> + Send
where
    C: Default + PartialOrd + Clone + Send,
    T: Send,
    F: Future<Output = Result<(Vec<T>, C), Error>> + Send,
{
    let first = Some(C::default());
    let pages = futures::stream::try_unfold((first, page), |(cursor, page)| async move {
        let Some(cursor) = cursor else { return Ok::<_, Error>(None) };
        let (items, next) = page(cursor.clone()).await?;
        let next = (next > cursor).then_some(next);
        Ok(Some((futures::stream::iter(items.into_iter().map(Ok)), (next, page))))
    });
    pages.try_flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_joined_until_one_has_no_cursor_or_the_same() {
        let list = paged(async |cursor: u32| match cursor {
            0 => Ok((vec![1, 2], 10)),
            10 => Ok((vec![], 20)),
            20 => Ok((vec![3], 0)),
            other => panic!("{other} was never a cursor"),
        });
        assert_eq!(list.try_collect::<Vec<_>>().await.expect("no page fails"), [1, 2, 3]);
        let list = paged(async |_: u32| Ok((vec![9], 10)));
        assert_eq!(list.try_collect::<Vec<_>>().await.expect("no page fails"), [9, 9]);
        let list = paged(async |cursor: u32| match cursor {
            0 => Ok((vec![1], 10)),
            _ => Err(Error::bad_answer("no".to_owned())),
        });
        list.try_collect::<Vec<_>>().await.expect_err("a page that fails is not left out");
    }
}
