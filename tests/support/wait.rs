//! Waiting for what another process does, with a deadline.

use std::time::Duration;

/// Polls until there is an answer, and panics naming what it waited for after half a minute.
pub(crate) async fn until<T>(what: &str, mut poll: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if let Some(answer) = poll().await {
                return answer;
            }
        }
    };
    let limit = Duration::from_secs(30);
    let answer = tokio::time::timeout(limit, polling).await;
    answer.unwrap_or_else(|_| panic!("waited {limit:?} for {what}"))
}
