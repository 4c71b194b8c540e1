//! The pages for Prometheus and for health checks: `/metrics` and `/healthz`, nothing else.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Peers that are served at once; more wait in the kernel's queue.
const PEERS: usize = 32;
/// For how long a peer may take to send its headers.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);
/// For how long a peer may stay connected.
const PATIENCE: Duration = Duration::from_mins(2);
/// Content type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the pages show.
pub trait Pages: Send + Sync + 'static {
    /// The metrics, in Prometheus' text format, or what went wrong.
    fn metrics(&self) -> impl Future<Output = Result<Vec<u8>, String>> + Send;

    /// Whether the gateway does its work, and a sentence about it.
    fn health(&self) -> impl Future<Output = Result<String, String>> + Send;
}

/// Serves peers for ever.
pub async fn serve<P: Pages>(listener: TcpListener, pages: Arc<P>) {
    let peers = Arc::new(Semaphore::new(PEERS));
    loop {
        let Ok(place) = Arc::clone(&peers).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: it passes.
                warn!(%error, "cannot accept a peer on the metrics port");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, pages.as_ref()));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_PATIENCE)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, connection).await {
                debug!(%error, "a peer of the metrics port went away");
            }
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, pages: &impl Pages) -> Result<Response<Full<Bytes>>, Infallible> {
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    Ok(match request.uri().path() {
        "/metrics" | "/healthz" if !get => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        "/metrics" => match pages.metrics().await {
            Ok(page) => {
                let mut response = text(StatusCode::OK, page);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
                response
            }
            Err(message) => text(StatusCode::INTERNAL_SERVER_ERROR, message + "\n"),
        },
        "/healthz" => match pages.health().await {
            Ok(message) => text(StatusCode::OK, message + "\n"),
            Err(message) => text(StatusCode::SERVICE_UNAVAILABLE, message + "\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n"),
    })
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    struct Fixed;

    impl Pages for Fixed {
        async fn metrics(&self) -> Result<Vec<u8>, String> {
            Ok(b"a_total 1\n".to_vec())
        }

        async fn health(&self) -> Result<String, String> {
            Err("no policy is in force".to_owned())
        }
    }

    async fn exchange(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = tokio::spawn(serve(listener, Arc::new(Fixed)));
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = Vec::new();
        // A reset by a server that has heard enough is an answer too.
        let _ = stream.read_to_end(&mut reply).await;
        server.abort();
        String::from_utf8(reply).unwrap()
    }

    #[tokio::test]
    async fn pages_have_their_status_and_type() {
        let metrics = exchange(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        assert!(metrics.contains("version=0.0.4"), "{metrics}");
        assert!(metrics.ends_with("\r\n\r\na_total 1\n"), "{metrics}");
        let health = exchange(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(health.starts_with("HTTP/1.1 503 "), "{health}");
        assert!(health.ends_with("no policy is in force\n"), "{health}");
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let other = exchange(b"GET /etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(other.starts_with("HTTP/1.1 404 "), "{other}");
        let post =
            exchange(b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await;
        assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
        let garbage = exchange(&[0x16, 3, 1, 0, 0xff, b'\n', b'\r']).await;
        assert!(!garbage.contains("200 OK"), "{garbage}");
        let endless = exchange(&vec![b'a'; 100_000]).await;
        assert!(!endless.contains("200 OK"), "{endless}");
    }
}
