"""Small made-up archives in exactly the formats of the public sets, and what their catalogue entries would say."""

import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from recsys_ae.datasets.catalogue import CATALOGUE, Counts, File, PublicSet

FLAGS = {"Animation": 3, "Comedy": 5, "Sci-Fi": 15}


def _u_item(item: int, title: str, *genres: str) -> str:
    flags = ["0"] * 19
    for genre in genres:
        flags[FLAGS[genre]] = "1"
    return "|".join([str(item), title, "01-Jan-1995", "", "http://us.imdb.com/M/title-exact?x", *flags])


MEMBERS: dict[str, dict[str, bytes]] = {
    "ml-100k": {
        "ml-100k/README": b"SUMMARY & USAGE LICENSE",
        "ml-100k/u.data": b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t51\t5\t881250950\n",
        "ml-100k/u.item": "\n".join(
            [
                _u_item(242, "Kolya (1996)", "Comedy"),
                _u_item(302, "Misérables, Les (1995)", "Animation", "Sci-Fi"),
                _u_item(51, "x"),
            ]
        ).encode("iso-8859-1")
        + b"\n",
    },
    "ml-1m": {
        "ml-1m/ratings.dat": b"1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
        "ml-1m/movies.dat": "661::Misérables, Les (1995)::Drama|Musical\n1193::One Flew: Over (1975)::Drama\n".encode(
            "iso-8859-1"
        ),
        "ml-1m/users.dat": b"1::F::1::10::48067\n",
    },
    "ml-10m": {
        "ml-10M100K/ratings.dat": b"1::122::5::838985046\n1::185::4.5::838983525\n",
        "ml-10M100K/movies.dat": "122::Boomerang (1992)::Comedy|Romance\n185::Amélie (2001)::(no genres listed)\n".encode(),
    },
    "ml-20m": {
        "ml-20m/ratings.csv": (
            b"userId,movieId,rating,timestamp\r\n1,2,3.5,1112486027\r\n2,2,0.5,1112484676\r\n2,47,4.0,1112484819\r\n"
        ),
        "ml-20m/movies.csv": (
            'movieId,title,genres\r\n2,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Adventure|Drama\r\n'
            '47,"Say ""no"" (1995)",(no genres listed)\r\n'
        ).encode(),
        "ml-20m/genome-scores.csv": b"movieId,tagId,relevance\r\n1,1,0.025\r\n",
    },
    "lastfm-2k": {
        "user_artists.dat": b"userID\tartistID\tweight\r\n2\t51\t13883\r\n2\t52\t11690\r\n3\t51\t228\r\n",
        "artists.dat": 'id\tname\turl\tpictureURL\r\n51\tMötley "Crüe\thttp://x\thttp://y\r\n52\tMorcheeba\thttp://x\r\n'.encode(),
        "tags.dat": "tagID\ttagValue\r\n1\tmetal\r\n2\tañejo\r\n3\ta|b\r\n".encode("iso-8859-1"),
        "user_taggedartists.dat": (
            b"userID\tartistID\ttagID\tday\tmonth\tyear\r\n2\t51\t2\t1\t4\t2009\r\n3\t51\t1\t1\t4\t2009\r\n"
            b"4\t51\t1\t1\t4\t2009\r\n4\t51\t1\t1\t5\t2009\r\n2\t52\t3\t1\t4\t2009\r\n"
        ),
    },
    "msd": {
        "train_triplets.txt": (
            b"b80344d063b5ccb3212f76538f3d9e43d87dca9e\tSOAKIMP12A8C130995\t1\n"
            b"b80344d063b5ccb3212f76538f3d9e43d87dca9e\tSOBBMDR12A8C13253B\t2\n"
            b"85c1f87fea955d09b4bec2e36aee110927aedf9a\tSOAKIMP12A8C130995\t15\n"
        ),
    },
    "gowalla": {
        "train.txt": b"0 0 1 2\n1 1 3\n2 0 2 4 3\n3 4 1\n",
        "test.txt": b"0 3\n1 0 2\n2 \n3 0\n",  # user 2 without items, as the Amazon books have some
        "item_list.txt": b"org_id remap_id\n9410 0\n420315 1\n21714 2\n316637 3\n16516 4\n",
        "user_list.txt": b"org_id remap_id\n196514 0\n196585 1\n170150 2\n196586 3\n",
    },
}
MEMBERS["ml-latest-small"] = {path.replace("ml-20m", "ml-latest-small"): data for path, data in MEMBERS["ml-20m"].items()}
COUNTS = {
    "ml-100k": Counts(2, 3, 3),
    "ml-1m": Counts(2, 2, 3),
    "ml-10m": Counts(1, 2, 2),
    "ml-20m": Counts(2, 2, 3),
    "ml-latest-small": Counts(2, 2, 3),
    "lastfm-2k": Counts(2, 2, 3),
    "msd": Counts(2, 2, 3),
    "gowalla": Counts(4, 5, 15),
}


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A zip, the same bytes every time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def published(name: str) -> dict[str, bytes]:
    """The files that the home of a set serves, made up."""
    members = MEMBERS[name]
    file = CATALOGUE[name].files[0]
    return {file.name: zipped(members)} if file.archive else dict(members)


def entry(name: str, base: str = "https://example.org", vouched: bool = True) -> PublicSet:
    """A catalogue entry like the real one, for the made-up files: their addresses, digests, sizes and counts."""
    real = CATALOGUE[name]
    files = []
    for file in real.files:
        data = published(name)[file.name]
        digests = tuple(
            f"{kind}:{hashlib.new(kind, data).hexdigest()}"
            for kind in sorted({d.partition(":")[0] for d in file.digests})
            if vouched
        )
        size = len(data) if file.size else None
        files.append(File(file.name, f"{base}/{file.name}", digests, "made up", size))
    return dataclasses.replace(real, files=tuple(files), counts=COUNTS[name])


def extracted(members: Mapping[str, bytes], folder: Path) -> Path:
    """The members as files below a folder."""
    for path, data in members.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder
