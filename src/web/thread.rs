//! The thread of the HTTP server: where it runs, and how it begins and ends.

use std::fmt;
use std::future::Future;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::connection;
use super::routes::Routes;
use super::shared::Shared;
use crate::control::published::Published;
use tapline_kernel::machine;

/// How long connections may take to end with the broker.
const END_LIMIT: Duration = Duration::from_millis(700);

/// The CPUs that the thread runs on.
pub(super) struct Cpus {
    list: Vec<u32>,
    /// Workers have all of them.
    are_workers: bool,
}

impl Cpus {
    /// Chooses those of `available` that no worker has; all of them where workers have all.
    pub(super) fn beside(published: &Published, available: &[u32]) -> Self {
        let lcores = &published.counted.stats.lcores;
        let workers: Vec<u32> = lcores.iter().filter_map(|(name, _)| name.parse().ok()).collect();
        Self::without(&workers, available)
    }

    pub(super) fn without(workers: &[u32], available: &[u32]) -> Self {
        let free: Vec<u32> = available.iter().copied().filter(|cpu| !workers.contains(cpu)).collect();
        match free.is_empty() {
            true => Self { list: available.to_vec(), are_workers: true },
            false => Self { list: free, are_workers: false },
        }
    }

    /// Says that the thread may have to wait, where it shares its CPUs with workers.
    pub(super) fn warning(&self) -> Option<String> {
        let remedy = "give it a CPU without a worker (`set lcores`, `set workers`), or expect slow answers under load";
        self.are_workers.then(|| format!("the server's thread runs on {self}; {remedy}"))
    }

    /// Puts the calling thread there.
    fn take(&self) {
        // where the kernel refuses, the thread stays where the main thread is
        let _ = machine::run_on(&self.list);
        if self.are_workers {
            let _ = machine::run_when_idle();
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.list.iter().map(u32::to_string).collect();
        let list = list.join(",");
        if self.are_workers {
            write!(f, "CPUs {list} at SCHED_IDLE, since each of them has a worker")
        } else {
            write!(f, "CPUs {list}, which no worker has")
        }
    }
}

/// Serves until the broker ends.
pub(super) fn run(listener: TcpListener, shared: Arc<Shared>, cpus: &Cpus) {
    cpus.take();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // where the system has no epoll for it, nobody is answered; the socket is closed and says so
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        let routes = Arc::new(Routes::new(Arc::clone(&shared)));
        tokio::spawn(routes.remember());
        let served = connection::serve(&listener, &routes).await;
        drop(listener);
        // those who are being answered get a moment to take it
        let _ = tokio::time::timeout(END_LIMIT, served.all_gone()).await;
    });
    runtime.shutdown_background();
}

/// The first of two things that happen.
pub(super) enum First<A, B> {
    This(A),
    That(B),
}

/// Waits for one of two things, and drops the other.
pub(super) async fn first_of<A, B>(
    this: impl Future<Output = A>,
    that: impl Future<Output = B>,
) -> First<A, B> {
    let (mut this, mut that) = (pin!(this), pin!(that));
    std::future::poll_fn(|context| {
        if let Poll::Ready(this) = this.as_mut().poll(context) {
            return Poll::Ready(First::This(this));
        }
        that.as_mut().poll(context).map(First::That)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_keeps_off_workers_where_it_can() {
        for (workers, available, list, are_workers) in [
            (&[1, 2][..], &[0, 1, 2, 3][..], &[0, 3][..], false),
            (&[0], &[0], &[0], true),
            (&[0, 1, 7], &[0, 1], &[0, 1], true),
            (&[], &[4], &[4], false),
        ] {
            let cpus = Cpus::without(workers, available);
            assert_eq!((cpus.list.as_slice(), cpus.are_workers), (list, are_workers));
        }
        assert_eq!(Cpus::without(&[1], &[0, 1]).to_string(), "CPUs 0, which no worker has");
        assert_eq!(
            Cpus::without(&[0], &[0]).to_string(),
            "CPUs 0 at SCHED_IDLE, since each of them has a worker"
        );
    }
}
