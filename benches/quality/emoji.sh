#!/usr/bin/env bash
# Compares dcgan-r1 with dcgan-64 and dcgan-fast-64 on a public set of colour images, for the same CPU time: 3,786 emoji of 64 x 64 pixels,
# Twitter's (Creative Commons Attribution 4.0), which the npm package emoji-datasource-twitter contains.
#
#     benches/quality/emoji.sh OUT [OPTIONS of compare.py]
#
# OUT receives the images, runs and reports. The steps are those of 10 minutes of one thread of an AMD EPYC (Zen 5). Needs npm, tar and
# Python 3.11.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,8s/^# \?//p' "$0" >&2; exit 2; }
out="$1"
shift
mkdir -p "$out"
if ! [ -d "$out/emoji" ]; then
    archive="$out/$(cd "$out" && npm pack --silent emoji-datasource-twitter@16.0.0)"
    rm -rf "$out/emoji.part"
    mkdir "$out/emoji.part"
    tar --extract --gzip --file "$archive" --directory "$out/emoji.part" --strip-components 4 package/img/twitter/64
    mv "$out/emoji.part" "$out/emoji"
fi
python3 "$(dirname "$0")/compare.py" --out "$out" --data "$out/emoji" \
    --recipe "dcgan-r1: --steps 11500" \
    --recipe "dcgan-fast-64: --model dcgan-fast-64 --steps 11300" \
    --recipe "dcgan-64: --model dcgan-64 --steps 384" "$@"
