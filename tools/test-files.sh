#!/usr/bin/env bash
# Fetches what only tests need into a cache folder and prints that folder: a registry that serves a real nginx,
# etcd, etcdctl and strace. Debian packages are downloaded and unpacked, never installed; no service is started.
set -euo pipefail
cache=${KONTIKI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kontiki}
# Changes with this script, so that an old folder is never taken for a new one.
key=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-12)
folder=$cache/test-files-$key
if [ -e "$folder/complete" ]; then
  echo "$folder"
  exit
fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
  echo "the end-to-end tests need Debian or Ubuntu's packages of nginx-light, busybox, docker-registry, etcd and strace" >&2
  exit 1
fi
echo "fetching what tests need into $folder (once)" >&2
rm -rf "$folder"
mkdir -p "$folder/packages" "$folder/nginx" "$folder/tools"
cd "$folder/packages"

# fetch FOLDER PACKAGE...: downloads and unpacks
fetch() {
  local into=$1 package
  shift
  apt-get download -qq -o APT::Sandbox::User=root "$@" >&2 ||
    { apt-get update -qq >&2 && apt-get download -qq -o APT::Sandbox::User=root "$@" >&2; }
  for package in *.deb; do
    dpkg-deb -x "$package" "$into"
    rm "$package"
  done
}
apt-cache show nginx-light >/dev/null 2>&1 || apt-get update -qq >&2
# closure PACKAGE...: with all that they depend on
closure() {
  apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" |
    grep -E '^[a-z0-9]' | grep -vE '^(debconf|perl|perl-base|dpkg|tar|cdebconf|debianutils|init-system-helpers|systemd|lsb-base|sysvinit-utils|mawk)(:|$)' | sort -u
}
fetch "$folder/nginx" $(closure nginx-light curl) busybox dash
fetch "$folder/tools" docker-registry etcd-client etcd-server strace libunwind8 liblzma5
# One place for libraries, whatever the package calls it.
if [ -d "$folder/tools/lib" ]; then cp -a "$folder/tools/lib/." "$folder/tools/usr/lib/"; fi

# The image: users, folders and links that the packages' scripts would have made.
root=$folder/nginx
mkdir -p "$root"/{etc,run,tmp,proc,sys,dev,var/log/nginx,var/lib/nginx,var/www/html,usr/local/bin,etc/nginx/sites-enabled,etc/nginx/modules-enabled}
chmod 1777 "$root/tmp"
printf 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nwww-data:x:33:\n' >"$root/etc/group"
ln -sf ../sites-available/default "$root/etc/nginx/sites-enabled/default"
ln -sf /dev/stdout "$root/var/log/nginx/access.log"
ln -sf /dev/stderr "$root/var/log/nginx/error.log"
cp "$root/usr/share/nginx/html/index.html" "$root/var/www/html/index.html"
for name in cat env id ls nslookup sleep sh wget; do
  ln -sf /bin/busybox "$root/usr/local/bin/$name"
done
rm -rf "$root"/usr/share/{doc,man,locale,lintian} "$root"/usr/lib/nginx/modules

# Into the registry's own folder, as a push would lay it out.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$root" -cf "$folder/layer.tar" .
plain=$(sha256sum "$folder/layer.tar" | cut -d' ' -f1)
gzip -n -1 "$folder/layer.tar"
cat >"$folder/config.json" <<JSON
{"architecture":"$(dpkg --print-architecture)","os":"linux","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["nginx","-g","daemon off;"],"StopSignal":"SIGQUIT"},"rootfs":{"type":"layers","diff_ids":["sha256:$plain"]}}
JSON
layer=$(sha256sum "$folder/layer.tar.gz" | cut -d' ' -f1)
config=$(sha256sum "$folder/config.json" | cut -d' ' -f1)
printf '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":%s,"digest":"sha256:%s"},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":%s,"digest":"sha256:%s"}]}' \
  "$(stat -c %s "$folder/config.json")" "$config" "$(stat -c %s "$folder/layer.tar.gz")" "$layer" >"$folder/manifest.json"
manifest=$(sha256sum "$folder/manifest.json" | cut -d' ' -f1)
registry=$folder/registry/docker/registry/v2
repository=$registry/repositories/library/nginx
blob() { mkdir -p "$registry/blobs/sha256/${2:0:2}/$2" && cp "$1" "$registry/blobs/sha256/${2:0:2}/$2/data"; }
link() { mkdir -p "$1" && printf 'sha256:%s' "$2" >"$1/link"; }
blob "$folder/layer.tar.gz" "$layer"
blob "$folder/config.json" "$config"
blob "$folder/manifest.json" "$manifest"
link "$repository/_layers/sha256/$layer" "$layer"
link "$repository/_layers/sha256/$config" "$config"
link "$repository/_manifests/revisions/sha256/$manifest" "$manifest"
link "$repository/_manifests/tags/1.21/current" "$manifest"
link "$repository/_manifests/tags/1.21/index/sha256/$manifest" "$manifest"

# The same image as an archive, for `kontiki image import`.
gunzip -c "$folder/layer.tar.gz" >"$folder/layer.tar"
sed 's/.*/[{"Config":"config.json","RepoTags":["imported.example\/nginx:1.21"],"Layers":["layer.tar"]}]/' <<<x >"$folder/docker.json"
cp "$folder/manifest.json" "$folder/pushed.json" && cp "$folder/docker.json" "$folder/manifest.json"
tar -C "$folder" -cf "$folder/nginx.tar" config.json manifest.json layer.tar
rm -rf "$folder"/{packages,nginx,layer.tar,layer.tar.gz,manifest.json,pushed.json,docker.json,config.json}
touch "$folder/complete"
echo "$folder"
