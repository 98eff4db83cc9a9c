//! One call by gRPC: a message there, a message back, on a connection of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use h2::RecvStream;
use h2::client;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// Asks the server at a socket; `method` is `PACKAGE.SERVICE/METHOD`.
///
/// # Errors
/// The server's, with the words that it has for it; there is no answer in time.
pub fn call<A: Message + Default>(
    socket: &Path,
    method: &str,
    request: &impl Message,
    limit: Duration,
) -> Result<A> {
    let runtime = Builder::new_current_thread().enable_all().build().context("an event loop")?;
    let answer = async { timeout(limit, unary(socket, method, frame(request)?)).await? };
    let answer = runtime.block_on(answer).with_context(|| method.to_owned())?;
    A::decode(message(&answer)?).with_context(|| format!("the answer to {method}"))
}

/// Five bytes go before a message: whether it is compressed, and its length.
fn frame(request: &impl Message) -> Result<Vec<u8>> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(request.encoded_len())?.to_be_bytes());
    request.encode(&mut bytes)?;
    Ok(bytes)
}

fn message(bytes: &[u8]) -> Result<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<5>().context("an answer without a message")?;
    let [compressed, length @ ..] = *head;
    ensure!(compressed == 0, "a compressed answer");
    let length = usize::try_from(u32::from_be_bytes(length))?;
    ensure!(rest.len() == length, "{} bytes, and {length} were announced", rest.len());
    Ok(rest)
}

async fn unary(socket: &Path, method: &str, frame: Vec<u8>) -> Result<Vec<u8>> {
    let stream = UnixStream::connect(socket).await.context("connecting")?;
    let (client, connection) = client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://localhost/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = client.ready().await?.send_request(request, false)?;
    body.send_data(frame.into(), true)?;
    let (head, mut body) = response.await?.into_parts();
    ensure!(head.status.is_success(), "HTTP status {}", head.status);
    let bytes = all(&mut body).await?;
    // An answer that is an error alone has no trailers.
    status(&body.trailers().await?.unwrap_or(head.headers))?;
    connection.abort();
    Ok(bytes)
}

async fn all(body: &mut RecvStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn status(headers: &HeaderMap) -> Result<()> {
    let text = |name: &str| {
        let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        value.unwrap_or_default().into_owned()
    };
    match text("grpc-status").as_str() {
        "0" => Ok(()),
        code => bail!("status {code}: {}", text("grpc-message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_before_a_message_is_its_length() {
        let bytes = frame(&"ab".to_owned()).unwrap();
        assert_eq!(bytes[..5], [0, 0, 0, 0, 4]);
        assert_eq!(String::decode(message(&bytes).unwrap()).unwrap(), "ab");
        assert!(message(&bytes[..4]).is_err() && message(&bytes[..8]).is_err());
    }

    #[test]
    fn a_status_is_an_error_unless_it_is_zero() {
        let headers = |code: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", code.parse().unwrap());
            headers.insert("grpc-message", "no such pod".parse().unwrap());
            headers
        };
        assert!(status(&headers("0")).is_ok());
        let error = status(&headers("5")).unwrap_err();
        assert_eq!(error.to_string(), "status 5: no such pod");
        assert!(status(&HeaderMap::new()).is_err());
    }
}
