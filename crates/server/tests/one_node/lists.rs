//! Lists, patterns and the deletion by pattern.

use crate::fixture::{Fixture, seen, set};
use quorate_proto::v1;
use quorate_proto::v1::key_selector::Select;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use tonic::Code;
use tonic::transport::Channel;

fn prefix(prefix: &str) -> Option<v1::KeySelector> {
    Some(v1::KeySelector { select: Some(Select::Prefix(prefix.to_owned().into())) })
}

fn pattern(pattern: &str) -> Option<v1::KeySelector> {
    Some(v1::KeySelector { select: Some(Select::Pattern(pattern.to_owned().into())) })
}

async fn filled(fixture: &Fixture, count: u32) -> KvServiceClient<Channel> {
    let mut kv = fixture.kv().await;
    for number in 0..count {
        kv.set(set(format!("user.{number:04}").as_bytes(), b"v")).await.unwrap();
    }
    kv.set(set(b"other", b"v")).await.unwrap();
    kv
}

#[tokio::test]
async fn pages_fit_together_and_name_their_revision() {
    let fixture = Fixture::start().await;
    let mut kv = filled(&fixture, 25).await;
    let mut keys = Vec::new();
    let mut cursor = bytes::Bytes::new();
    loop {
        let request = v1::ListRequest {
            selector: prefix("user."),
            cursor,
            limit: 10,
            show: v1::Show::Keys.into(),
            ..Default::default()
        };
        let page = kv.list(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= 10 && page.revision > 0);
        assert!(page.entries.iter().all(|entry| entry.value.is_empty() && entry.version == 1));
        keys.extend(page.entries.into_iter().map(|entry| entry.key));
        if page.cursor.is_empty() {
            break;
        }
        cursor = page.cursor;
    }
    let expected: Vec<_> = (0..25).map(|number| format!("user.{number:04}")).collect();
    assert_eq!(keys, expected);

    let counted = v1::ListRequest {
        selector: pattern("user.001?"),
        show: v1::Show::Count.into(),
        ..Default::default()
    };
    let page = kv.list(counted).await.unwrap().into_inner();
    assert_eq!((page.count, page.entries.len()), (10, 0));
}

#[tokio::test]
async fn a_streamed_list_is_of_one_moment() {
    let fixture = Fixture::start().await;
    let mut kv = filled(&fixture, 30).await;
    let request = v1::ListRequest { selector: prefix(""), limit: 29, ..Default::default() };
    let mut pages = kv.list_stream(request).await.unwrap().into_inner();
    // What comes later is not in it.
    kv.set(set(b"user.0000x", b"later")).await.unwrap();
    let mut listed = Vec::new();
    let mut last_cursor = bytes::Bytes::new();
    while let Some(page) = pages.message().await.unwrap() {
        listed.extend(page.entries.into_iter().map(|entry| entry.key));
        last_cursor = page.cursor;
    }
    assert_eq!(listed.len(), 29);
    assert_eq!(listed[0], "other");
    assert!(!listed.contains(&"user.0000x".into()));
    assert_eq!(last_cursor, listed[28], "it was cut off, and says where");

    // Four at once on a connection, and no fifth. They are so large that none ends unread.
    for number in 0..8 {
        kv.set(set(format!("large.{number}").as_bytes(), &vec![7; 512 << 10])).await.unwrap();
    }
    let request = v1::ListRequest { selector: prefix("large."), ..Default::default() };
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(kv.list_stream(request.clone()).await.unwrap());
    }
    let refused = kv.list_stream(request.clone()).await.unwrap_err();
    assert_eq!(seen(&refused), (Code::ResourceExhausted, "TOO_MANY_LISTS", "not_applied"));
    drop(open);
    let again = async {
        while kv.list_stream(request.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), again).await.unwrap();
}

#[tokio::test]
async fn a_deletion_by_pattern_goes_step_by_step() {
    let fixture = Fixture::start().await;
    let mut kv = filled(&fixture, 25).await;
    let mut request = v1::DeletePatternRequest {
        selector: pattern("user.*"),
        keys_max: 10,
        ..Default::default()
    };
    let mut steps = Vec::new();
    loop {
        let step = kv.delete_pattern(request.clone()).await.unwrap().into_inner();
        steps.push(step.deleted);
        if step.cursor.is_empty() {
            break;
        }
        request.cursor = step.cursor;
    }
    assert_eq!(steps.iter().sum::<u64>(), 25);
    assert!(steps.len() >= 3 && steps.iter().all(|deleted| *deleted <= 10), "{steps:?}");
    let left = kv.list(v1::ListRequest::default()).await.unwrap().into_inner();
    assert_eq!(left.entries.len(), 1);
}

#[tokio::test]
async fn what_can_not_be_looked_for_is_refused_with_words() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let list = v1::ListRequest { selector: pattern("user.[a"), ..Default::default() };
    let status = kv.list(list).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "INVALID_PATTERN", "not_applied"));
    let delete = v1::DeletePatternRequest::default();
    let status = kv.delete_pattern(delete).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "NO_SELECTOR", "not_applied"));
    let by = v1::IncrementFloatRequest { key: "n".into(), by: f64::NAN, ..Default::default() };
    let status = kv.increment_float(by).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "INVALID_NUMBER", "not_applied"));
    let by = v1::IncrementFloatRequest { key: "n".into(), by: 0.5, ..Default::default() };
    assert!((kv.increment_float(by).await.unwrap().into_inner().value - 0.5).abs() < f64::EPSILON);
}
