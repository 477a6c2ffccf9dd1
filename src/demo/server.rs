//! A node's sockets: accept, serve one connection after the other's request, end all of it at once.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Shared;
use super::conn::Conn;
use super::exchange::{Exchange, Next};
use super::http::lock;

/// Rest after a failed accept, such as one without a free file descriptor.
const ACCEPT_REST: Duration = Duration::from_millis(10);

/// Serves the listener until the node is killed.
pub(super) fn listen(shared: &Arc<Shared>, listener: TcpListener) {
    *lock(&shared.listener) = Some(listener);
    spawn(accept(Arc::clone(shared), shared.life.subscribe()));
}

#[expect(
    clippy::disallowed_methods,
    reason = "every task of a node watches the node's life and ends with it"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

async fn accept(shared: Arc<Shared>, mut life: watch::Receiver<u64>) {
    loop {
        let accepted = tokio::select! {
            _ = life.changed() => return,
            accepted = next_stream(&shared) => accepted,
        };
        match accepted {
            None => return,
            Some(Ok(stream)) => spawn(connection(Arc::clone(&shared), stream, life.clone())),
            Some(Err(_)) => tokio::time::sleep(ACCEPT_REST).await,
        }
    }
}

/// The next connection; `None` when the listener is closed. The listener stays in its place while we wait, so that
/// `Node::kill` can close it without asking this task.
async fn next_stream(shared: &Shared) -> Option<std::io::Result<TcpStream>> {
    let mut frozen = shared.frozen.subscribe();
    if frozen.wait_for(|f| !f).await.is_err() {
        return None;
    }
    poll_fn(|cx| match &*lock(&shared.listener) {
        None => Poll::Ready(None),
        Some(listener) => listener
            .poll_accept(cx)
            .map(|r| Some(r.map(|(stream, _)| stream))),
    })
    .await
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, mut life: watch::Receiver<u64>) {
    // Without it a token could wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let conn = Conn::new(stream, shared.frozen.subscribe());
    tokio::select! {
        _ = life.changed() => {}
        () = serve(&shared, &conn) => {}
    }
}

async fn serve(shared: &Arc<Shared>, conn: &Conn) {
    let mut reused = false;
    loop {
        let head = match conn.head().await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(_) => {
                let refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request";
                // The client may be gone already; the connection ends either way.
                let _ = conn.write(refusal).await;
                return;
            }
        };
        let exchange = Exchange {
            shared,
            conn,
            head: &head,
            fault: shared.take_fault(&head, reused),
        };
        match exchange.run(reused).await {
            Next::KeepAlive => reused = true,
            Next::Close => return,
            Next::Reset => return conn.reset_on_close(),
        }
    }
}
