//! Names of elsewhere: asked of the node's own resolvers, as they came.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// How long one resolver may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// Largest answer over UDP.
const DATAGRAM_BYTES_MAX: usize = 4096;

/// The first answer of the resolvers, tried in turn.
pub async fn forward(upstream: &[SocketAddr], query: &[u8]) -> io::Result<Vec<u8>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the node has no resolver");
    for server in upstream {
        match tokio::time::timeout(DEADLINE, ask(*server, query)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn ask(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        // Somebody else's answer has another number.
        if length > 3 && answer[..2] == query[..2.min(query.len())] {
            // The third byte says whether it was cut off.
            if answer[2] & 0x02 != 0 {
                return ask_by_stream(server, query).await;
            }
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_by_stream(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
