//! A container's root: the image's layers below, what the container writes above.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Longest list of options that the kernel takes in one mount call, less a margin.
const OPTIONS_BYTES_MAX: usize = 4000;

/// Mounts layers (lowest first) and the writable folder at `root`.
pub fn mount_overlay(layers: &[PathBuf], writable: &Path, root: &Path) -> Result<()> {
    let (upper, work) = (writable.join("upper"), writable.join("work"));
    for folder in [&upper, &work] {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    fs::create_dir_all(root).with_context(|| format!("make {}", root.display()))?;
    if layers.is_empty() {
        bail!("the image has no layers");
    }
    let options = options(layers, &upper, &work)?;
    mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(options.as_os_str()))
        .with_context(|| format!("mount the layers at {}", root.display()))
}

/// Mounts layers (lowest first) at `at`, to be read only. May be repeated.
pub fn mount_read_only(layers: &[PathBuf], at: &Path) -> Result<()> {
    fs::create_dir_all(at).with_context(|| format!("make {}", at.display()))?;
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    if mounts.lines().filter_map(|line| line.split(' ').nth(1)).any(|point| Path::new(point) == at) {
        return Ok(());
    }
    // The kernel wants two folders where none is writable; the empty one below the others shows nothing.
    let empty = at.with_extension("empty");
    fs::create_dir_all(&empty).with_context(|| format!("make {}", empty.display()))?;
    let options = lower(std::iter::once(&empty).chain(layers))?;
    mount(Some("overlay"), at, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_os_str()))
        .with_context(|| format!("mount the image at {}", at.display()))
}

fn options(layers: &[PathBuf], upper: &Path, work: &Path) -> Result<OsString> {
    let mut options = lower(layers.iter())?;
    options.push(",upperdir=");
    options.push(upper);
    options.push(",workdir=");
    options.push(work);
    if options.len() > OPTIONS_BYTES_MAX {
        bail!("the image has too many layers ({})", layers.len());
    }
    Ok(options)
}

fn lower<'a>(layers: impl DoubleEndedIterator<Item = &'a PathBuf>) -> Result<OsString> {
    let mut options = OsString::from("lowerdir=");
    for (number, layer) in layers.rev().enumerate() {
        if layer.as_os_str().as_bytes().iter().any(|byte| b":,\\".contains(byte)) {
            bail!("{} cannot be a layer: its path has a colon, comma or backslash", layer.display());
        }
        if number > 0 {
            options.push(":");
        }
        options.push(layer);
    }
    if options.len() > OPTIONS_BYTES_MAX {
        bail!("the image has too many layers");
    }
    Ok(options)
}

/// Mounts memory that all containers of a pod share at /dev/shm.
pub fn mount_shared_memory(at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("shm"), at, Some("tmpfs"), flags, Some("mode=1777,size=65536k")).context("mount shared memory")
}

/// Takes every mount at and below `folder` away.
pub fn unmount_below(folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    let mut points: Vec<PathBuf> =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).filter(|at| at.starts_with(folder)).collect();
    points.sort();
    for point in points.iter().rev() {
        match umount2(point, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(errno) => return Err(errno).with_context(|| format!("unmount {}", point.display())),
        }
    }
    Ok(())
}

/// Removes a folder; one that is gone is fine.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Who a container's process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Number of the user.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Further groups, from the image's /etc/group.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
}

/// Finds a user (`name`, `uid`, `name:group`, ...) in the image's files; `passwd` and `group` are their texts.
pub fn user(wanted: &str, passwd: &str, group: &str) -> Result<User> {
    let (name, group_name) = wanted.split_once(':').map_or((wanted, None), |(name, group)| (name, Some(group)));
    let name = if name.is_empty() { "0" } else { name };
    let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = lines.into_iter().find(|fields| fields.len() >= 6 && (fields[0] == name || fields[2] == name));
    let mut user = User { home: "/".to_owned(), ..User::default() };
    let mut login = name.to_owned();
    match (&entry, name.parse::<u32>()) {
        (Some(fields), _) => {
            user.uid = fields[2].parse().with_context(|| format!("user {name} has no number"))?;
            user.gid = fields[3].parse().with_context(|| format!("user {name} has no group"))?;
            user.home = fields[5].to_owned();
            login = fields[0].to_owned();
        }
        (None, Ok(uid)) => user.uid = uid,
        (None, Err(_)) => bail!("unable to find user {name}: no matching entries in passwd file"),
    }
    let groups: Vec<Vec<&str>> = group.lines().map(|line| line.split(':').collect()).collect();
    if let Some(wanted) = group_name {
        let found = groups.iter().find(|fields| fields.len() >= 3 && (fields[0] == wanted || fields[2] == wanted));
        user.gid = match (found, wanted.parse()) {
            (Some(fields), _) => fields[2].parse().with_context(|| format!("group {wanted} has no number"))?,
            (None, Ok(gid)) => gid,
            (None, Err(_)) => bail!("unable to find group {wanted}: no matching entries in group file"),
        };
    } else {
        let member = |fields: &&Vec<&str>| fields.len() >= 4 && fields[3].split(',').any(|name| name == login);
        user.groups = groups.iter().filter(member).filter_map(|fields| fields[2].parse().ok()).collect();
    }
    Ok(user)
}

/// Reads a file of the container without following links out of its root.
pub fn read_inside(root: &Path, name: &str) -> String {
    let path = root.join(name);
    let real = path.canonicalize().ok().filter(|real| root.canonicalize().is_ok_and(|root| real.starts_with(root)));
    real.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:102:nginx:/var/cache/nginx:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:nginx,other\nnginx:x:102:\n";

    #[test]
    fn users_by_name_and_number() {
        let cases = [
            ("", (0, 0, "/root", vec![])),
            ("nginx", (101, 102, "/var/cache/nginx", vec![33])),
            ("101", (101, 102, "/var/cache/nginx", vec![33])),
            ("nginx:www", (101, 33, "/var/cache/nginx", vec![])),
            ("5000", (5000, 0, "/", vec![])),
            ("5000:6000", (5000, 6000, "/", vec![])),
        ];
        for (wanted, (uid, gid, home, groups)) in cases {
            let found = user(wanted, PASSWD, GROUP).unwrap();
            assert_eq!((found.uid, found.gid, found.home.as_str(), found.groups), (uid, gid, home, groups), "{wanted}");
        }
        assert!(user("nobody-here", PASSWD, GROUP).is_err());
        assert!(user("nginx:nothing", PASSWD, GROUP).is_err());
    }

    #[test]
    fn the_highest_layer_comes_first() {
        let options = options(&["/l/1".into(), "/l/2".into()], Path::new("/w/u"), Path::new("/w/w")).unwrap();
        assert_eq!(options, "lowerdir=/l/2:/l/1,upperdir=/w/u,workdir=/w/w");
        assert!(super::options(&["/l:1".into()], Path::new("/u"), Path::new("/w")).is_err());
    }
}
