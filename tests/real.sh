#!/bin/sh
# Real SQLite files from public packages, under target/real: PROJ's database of coordinate systems (pyproj), and what Django's own applications make.
set -eu
cd "$(dirname "$0")/.."
files=target/real/files
[ -e "$files/ready" ] && exit 0
mkdir -p "$files"
python3 -m venv target/real/python
target/real/python/bin/pip install -q --disable-pip-version-check "Django>=5,<6" "pyproj>=3.7,<4"
cp target/real/python/lib/python3*/site-packages/pyproj/proj_dir/share/proj/proj.db "$files/proj.db"
rm -f "$files/django.db"
target/real/python/bin/python tests/django_file.py "$files/django.db"
touch "$files/ready"
