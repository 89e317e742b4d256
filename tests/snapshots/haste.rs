//! Time that flies, for what waits: pauses pass at once, and what another thread answers arrives as ever.

use std::time::Duration;

use barkeep::clock;

/// What passes here, and what passes by the clock that pauses follow.
const PACE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(30));

/// The clock stands while this lives.
struct Standing;

impl Drop for Standing {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}

/// Does something while time flies. Only on a runtime of one thread.
pub(crate) async fn in_haste<T>(what: impl Future<Output = T>) -> T {
    let flying = async {
        loop {
            clock::pause(PACE.0).await;
            tokio::time::pause();
            let _standing = Standing;
            tokio::time::advance(PACE.1).await;
        }
    };
    tokio::select! {
        biased;
        done = what => done,
        () = flying => unreachable!("time goes on"),
    }
}
