//! A gateway inside the caller's own runtime, on ports from the kernel: for tests and benches.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use pingora::apps::ServerApp;
use pingora::protocols::l4::stream::Stream as TcpLike;
use pingora::protocols::{GetSocketDigest as _, SocketDigest, Stream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;

use super::Gateway;
use super::server::{Parts, build};

/// A running gateway. Dropping it ends it.
pub struct LocalGateway {
    /// Where clients connect: 127.0.0.1 and a port from the kernel.
    pub addr: SocketAddr,
    /// Where the admin pages are, on 127.0.0.1 too.
    pub admin_addr: SocketAddr,
    /// What runs behind both listeners.
    pub gateway: Arc<Gateway>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl LocalGateway {
    /// Starts a gateway on 127.0.0.1; the configuration's own addresses are not used.
    ///
    /// # Errors
    /// When no port can be had, or the configuration cannot be carried out.
    pub async fn start(config: Config) -> std::io::Result<LocalGateway> {
        let Parts {
            gateway,
            main,
            admin,
            watch,
            helper,
        } = build(config).map_err(std::io::Error::other)?;
        let (stop, stopping) = watch::channel(false);
        let main_listener = TcpListener::bind("127.0.0.1:0").await?;
        let admin_listener = TcpListener::bind("127.0.0.1:0").await?;
        let (addr, admin_addr) = (main_listener.local_addr()?, admin_listener.local_addr()?);
        let (for_watch, for_helper) = (stopping.clone(), stopping.clone());
        let tasks = vec![
            spawn(accept(main_listener, Arc::new(main), stopping.clone())),
            spawn(accept(admin_listener, Arc::new(admin), stopping)),
            spawn(async move { watch.run(for_watch).await }),
            spawn(async move { helper.run(for_helper).await }),
        ];
        Ok(LocalGateway {
            addr,
            admin_addr,
            gateway,
            stop,
            tasks,
        })
    }
}

impl Drop for LocalGateway {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept<A>(listener: TcpListener, app: Arc<A>, stopping: watch::Receiver<bool>)
where
    A: ServerApp + Send + Sync + 'static,
{
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        let (app, stopping) = (app.clone(), stopping.clone());
        let mut stop = stopping.clone();
        spawn(async move {
            // As Pingora's own listeners do, or nobody would know where the client is.
            let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
            let mut stream = TcpLike::from(socket);
            stream.set_socket_digest(digest);
            let stream: Stream = Box::new(stream);
            tokio::select! {
                _ = app.process_new(stream, &stopping) => (),
                _ = stop.wait_for(|stop| *stop) => (), // as when the process is killed
            }
        });
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "ends with the LocalGateway: aborted on drop, or told by `stop`"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}
