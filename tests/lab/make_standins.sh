#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Executed as root on a node with squashfs tools: make_standins.sh STANDINS FOLDER [SERVER] makes in FOLDER what stands for
# CVMFS.
#   repositories/  squashfs images, one for each repository
#   cvmfsexec/     a distribution whose client mounts these images, which it brings along, or with SERVER, a URL, fetches
#                  from there at the mount through its web proxy; the client runs on nodes of
#                  another age, as a real distribution's does on the systems it was made for
#   parrot/        parrot_run, which shows the repositories by path mapping, and what it finds
set -eu
standins=$1 folder=$2 server=${3-}
mkdir -p "$folder"
cd "$folder"

mkdir -p repositories
for repository in cms.cern.ch oasis.opensciencegrid.org; do
    mkdir -p "parrot/repositories/$repository/SITECONF"
    echo "hello from a stand-in of $repository" >"parrot/repositories/$repository/hello"
    # The attribute a real client gives.
    python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.fqrn", sys.argv[2].encode())' \
        "parrot/repositories/$repository" "$repository"
    mksquashfs "parrot/repositories/$repository" "repositories/$repository.squashfs" -quiet -no-progress
done

usr=cvmfsexec/dist/usr
mkdir -p "$usr/bin" "$usr/lib" "$usr/client" cvmfsexec/dist/etc/cvmfs/{default.d,domain.d,config.d}
cp "$standins"/standin_cvmfsexec/* cvmfsexec/
cp "$standins/standin_cvmfs2" "$usr/bin/"
if [ -n "$server" ]; then
    echo "STANDIN_SERVER=$server" >cvmfsexec/dist/etc/cvmfs/default.conf
else
    cp -r repositories "$usr/repositories"
    : >cvmfsexec/dist/etc/cvmfs/default.conf
fi
# No final newline: the real scripts would lose what is appended.
printf 'CVMFS_HTTP_PROXY=DIRECT' >cvmfsexec/dist/etc/cvmfs/default.local
ldd /usr/bin/squashfuse | grep -o '/[^ )]*' | while read -r library; do cp -L "$library" "$usr/client/"; done
for program in squashfuse flock; do
    cp "/usr/bin/$program" "$usr/client/$program.bin"
    cat >"$usr/client/$program" <<CLIENT
#!/bin/bash
here=\${0%/*}
exec "\$here/ld-linux-x86-64.so.2" --library-path "\$here" "\$here/$program.bin" "\$@"
CLIENT
done
cat >"$usr/bin/cvmfs2" <<'CLIENT'
#!/bin/bash
here=$(cd "$(dirname "$0")" && pwd)
PATH=$here/../client:$PATH exec "$here/standin_cvmfs2" "$@"
CLIENT

cp "$standins/standin_parrot_run" parrot/parrot_run
chmod -R a+rX .
chmod 755 "$usr/client/squashfuse" "$usr/client/flock" "$usr/bin/cvmfs2" parrot/parrot_run
