//! Reads a log from where somebody wants it, and goes on where the log goes on.
//!
//! Invariant: what a shim wrote is read once and in order, also where the log is rotated while it is read. A rotated log
//! is complete as soon as the next one is there: its shim makes that one and writes to no other from then on.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::tail_offset;

/// Bytes read at once.
const CHUNK_BYTES: u64 = 64 * 1024;
/// How often and how long apart a log is looked for that is not there: in the middle of a rotation it has no name.
const TRIES: (u32, Duration) = (5, Duration::from_millis(50));

/// A log that is being read.
pub struct Reader {
    path: PathBuf,
    file: Arc<File>,
}

impl Reader {
    /// Opens the log, at its last `tail` lines where there are so many.
    pub async fn open(path: PathBuf, tail: Option<usize>) -> io::Result<Self> {
        let mut tries = 1;
        loop {
            let wanted = path.clone();
            let opened = blocking(move || {
                let mut file = File::open(wanted)?;
                if let Some(lines) = tail {
                    let offset = tail_offset(&mut file, lines)?;
                    file.seek(SeekFrom::Start(offset))?;
                }
                Ok(file)
            });
            match opened.await {
                Ok(file) => return Ok(Self { path, file: Arc::new(file) }),
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES.0 => {}
                Err(error) => return Err(error),
            }
            tries += 1;
            tokio::time::sleep(TRIES.1).await;
        }
    }

    /// What comes next; nothing where nothing more is written yet.
    pub async fn next(&mut self) -> io::Result<Vec<u8>> {
        let chunk = self.read().await?;
        if !chunk.is_empty() {
            return Ok(chunk);
        }
        let Some(following) = self.following().await? else { return Ok(chunk) };
        // Between the look before and the new file's making more may have been written.
        let rest = self.read().await?;
        if !rest.is_empty() {
            return Ok(rest);
        }
        self.file = Arc::new(following);
        self.read().await
    }

    async fn read(&self) -> io::Result<Vec<u8>> {
        let file = Arc::clone(&self.file);
        blocking(move || {
            let mut chunk = Vec::new();
            file.as_ref().take(CHUNK_BYTES).read_to_end(&mut chunk)?;
            Ok(chunk)
        })
        .await
    }

    /// The file that has the log's name now, if it is another one.
    async fn following(&self) -> io::Result<Option<File>> {
        let (path, file) = (self.path.clone(), Arc::clone(&self.file));
        blocking(move || {
            let named = match File::open(path) {
                // In the middle of a rotation, or removed for good.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                named => named?,
            };
            let number = |metadata: Metadata| (metadata.dev(), metadata.ino());
            let other = number(named.metadata()?) != number(file.metadata()?);
            Ok(other.then_some(named))
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, io::Write};

    use super::*;

    async fn all(reader: &mut Reader) -> String {
        let mut text = Vec::new();
        loop {
            let chunk = reader.next().await.unwrap();
            if chunk.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            text.extend(chunk);
        }
    }

    /// Aim: nothing is lost or told twice. Method: each moment of a rotation, with a write after it.
    #[tokio::test]
    async fn a_log_is_read_on_where_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (log, old) = (folder.path().join("0.log"), folder.path().join("0.log.1"));
        let mut writer = fs::File::create(&log).unwrap();
        writer.write_all(b"1\n2\n").unwrap();
        let mut reader = Reader::open(log.clone(), Some(1)).await.unwrap();
        assert_eq!(all(&mut reader).await, "2\n");
        fs::rename(&log, &old).unwrap();
        writer.write_all(b"3\n").unwrap();
        assert_eq!(all(&mut reader).await, "3\n");
        writer.write_all(b"4\n").unwrap();
        let mut writer = fs::File::create(&log).unwrap();
        writer.write_all(b"5\n").unwrap();
        fs::remove_file(&old).unwrap();
        assert_eq!(all(&mut reader).await, "4\n5\n");
        writer.write_all(b"6\n").unwrap();
        assert_eq!(all(&mut reader).await, "6\n");
        assert!(Reader::open(folder.path().join("none"), None).await.is_err());
    }
}
