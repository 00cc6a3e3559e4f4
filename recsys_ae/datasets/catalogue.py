"""The public data sets known by name, as data: where each is, what its files must be, its terms, whom to cite.

No digest here was computed by us: each was published or pinned by the party that `File.vouched` names. Where none was found,
`digests` is empty, and the store holds every later file to the digest of the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Family: TypeAlias = Literal["movielens-tab", "movielens-colons", "movielens-csv", "hetrec-lastfm", "triplets", "lightgcn"]
MEBIBYTE = 2**20


@dataclass(frozen=True)
class File:
    """One file to fetch. `digests` are `md5:...` or `sha256:...`, all of which must hold; `size` in bytes where known."""

    name: str
    url: str
    digests: tuple[str, ...] = ()
    vouched: str = ""
    size: int | None = None

    @property
    def archive(self) -> bool:
        """Whether it is a zip of the data files."""
        return self.name.endswith(".zip")


@dataclass(frozen=True)
class Licence:
    """The terms, and the page on which they stand."""

    text: str
    url: str


@dataclass(frozen=True)
class Counts:
    """Distinct users and items, and rows."""

    users: int
    items: int
    interactions: int

    def __str__(self) -> str:
        return f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions"


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    `largest` bounds the bytes of a download of unknown size and of all that is unpacked. `changing` marks a set whose file is
    replaced at its home from time to time: no digest, size or count can be demanded of it.
    """

    name: str
    title: str
    family: Family
    files: tuple[File, ...]
    home: str
    licence: Licence
    citation: str
    counts: Counts
    largest: int
    changing: str = ""

    @property
    def split(self) -> bool:
        """Whether it comes divided into train and test."""
        return self.family == "lightgcn"

    @property
    def size(self) -> int | None:
        """Bytes to download, where known of every file."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


GROUPLENS = (
    "Neither the University of Minnesota nor any of the researchers involved can guarantee the correctness of the data, its "
    "suitability for any particular purpose, or the validity of results based on the use of the data set. The data set may be "
    "used for any research purposes under the following conditions:\n"
    "* The user may not state or imply any endorsement from the University of Minnesota or the GroupLens Research Group.\n"
    "* The user must acknowledge the use of the data set in publications resulting from the use of the data set.\n"
    "* {sharing}\n"
    "* The user may not use this information for any commercial or revenue-bearing purposes without first obtaining permission "
    "from a faculty member of the GroupLens Research Project at the University of Minnesota."
)
KEEP = "The user may not redistribute the data without separate permission."
SHARE = (
    "The user may redistribute the data set, including transformations, so long as it is distributed under these same license "
    "conditions."
)
HARPER = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM Transactions on "
    "Interactive Intelligent Systems (TiiS) 5, 4, Article 19. https://doi.org/10.1145/2827872"
)
MD5_FILE = "md5: GroupLens, in the .md5 file beside the archive"
TFDS = "sha256 and size: TensorFlow Datasets, url_checksums/movielens.txt"


def _movielens(
    name: str,
    title: str,
    family: Family,
    counts: Counts,
    *,
    digests: Sequence[str] = (),
    vouched: str = MD5_FILE,
    size: int | None = None,
    sharing: str = KEEP,
    readme: str = "html",
    largest: int,
    changing: str = "",
) -> PublicSet:
    base = f"https://files.grouplens.org/datasets/movielens/{name}"
    return PublicSet(
        name,
        title,
        family,
        (File(f"{name}.zip", f"{base}.zip", tuple(digests), vouched, size),),
        f"https://grouplens.org/datasets/movielens/{name.removeprefix('ml-').removesuffix('-small')}/",
        Licence(GROUPLENS.format(sharing=sharing), f"{base}-README.{readme}"),
        HARPER,
        counts,
        largest,
        changing,
    )


def _lightgcn(
    name: str, title: str, counts: Counts, md5: dict[str, str], vouched: str, origin: str, citation: str
) -> PublicSet:
    base = f"https://raw.githubusercontent.com/kuandeng/LightGCN/master/Data/{name}"
    files = tuple(File(file, f"{base}/{file}", (f"md5:{digest}",), vouched) for file, digest in md5.items())
    terms = (
        "The repository states no terms for these files, which are a preprocessed part of other data; the terms of the "
        f"origin apply: {origin}\nUse them for research; ask the origin before any other use and before passing them on."
    )
    return PublicSet(
        name,
        title,
        "lightgcn",
        files,
        f"https://github.com/kuandeng/LightGCN/tree/master/Data/{name}",
        Licence(terms, "https://github.com/kuandeng/LightGCN"),
        f"{citation} Split: Xiangnan He et al. 2020. LightGCN: Simplifying and Powering Graph Convolution Network for "
        "Recommendation. SIGIR. https://arxiv.org/abs/2002.02126",
        counts,
        64 * MEBIBYTE,
    )


_SETS = (
    _movielens(
        "ml-100k",
        "MovieLens 100K (1998): ratings 1 to 5 with times, titles, genres",
        "movielens-tab",
        Counts(943, 1_682, 100_000),
        digests=(
            "md5:0e33842e24a9c977be4e0107933c0723",
            "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ),
        vouched=f"{MD5_FILE}; {TFDS}",
        size=4_924_029,
        readme="txt",
        largest=64 * MEBIBYTE,
    ),
    _movielens(
        "ml-1m",
        "MovieLens 1M (2003): ratings 1 to 5 with times, titles, genres",
        "movielens-colons",
        Counts(6_040, 3_706, 1_000_209),
        digests=(
            "md5:c4d9eecfca2ab87c1945afe126590906",
            "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        ),
        vouched=f"{MD5_FILE}; {TFDS}",
        size=5_917_549,
        readme="txt",
        largest=128 * MEBIBYTE,
    ),
    _movielens(
        "ml-10m",
        "MovieLens 10M (2009): ratings 0.5 to 5 with times, titles, genres",
        "movielens-colons",
        Counts(69_878, 10_677, 10_000_054),
        digests=("md5:ce571fd55effeba0271552578f2648bd",),
        size=65_566_137,
        largest=1_024 * MEBIBYTE,
    ),
    _movielens(
        "ml-20m",
        "MovieLens 20M (2015): ratings 0.5 to 5 with times, titles, genres",
        "movielens-csv",
        Counts(138_493, 26_744, 20_000_263),
        digests=(
            "md5:cd245b17a1ae2cc31bb14903e1204af3",
            "sha256:96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        ),
        vouched=f"{MD5_FILE}; {TFDS}",
        size=198_702_078,
        largest=2_048 * MEBIBYTE,
    ),
    _movielens(
        "ml-25m",
        "MovieLens 25M (2019): ratings 0.5 to 5 with times, titles, genres",
        "movielens-csv",
        Counts(162_541, 59_047, 25_000_095),
        digests=(
            "md5:6b51fb2759a8657d3bfcbfc42b592ada",
            "sha256:8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
        ),
        vouched=f"{MD5_FILE}; {TFDS}",
        size=261_978_986,
        largest=2_048 * MEBIBYTE,
    ),
    _movielens(
        "ml-32m",
        "MovieLens 32M (2023): ratings 0.5 to 5 with times, titles, genres",
        "movielens-csv",
        Counts(200_948, 84_432, 32_000_204),
        digests=("md5:d472be332d4daa821edc399621853b57",),
        size=238_950_008,
        sharing=SHARE,
        largest=2_048 * MEBIBYTE,
    ),
    _movielens(
        "ml-latest-small",
        "MovieLens latest-small: ratings 0.5 to 5 with times, titles, genres; its home replaces it from time to time",
        "movielens-csv",
        Counts(610, 9_724, 100_836),
        vouched="",
        sharing=SHARE,
        largest=64 * MEBIBYTE,
        changing=(
            "GroupLens replaces this file from time to time and says that it is not for shared results. Counts are those of "
            "the release of September 2018, whose sha256, as TensorFlow Datasets pins it, is "
            "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436."
        ),
    ),
    _lightgcn(
        "gowalla",
        "Gowalla check-ins, the fixed train and test split of the LightGCN paper",
        Counts(29_858, 40_981, 1_027_370),
        {
            "train.txt": "5eec1eb2edb8dd648377d348b8e136cf",
            "test.txt": "c04e2c4bcd2389f53ed8281816166149",
            "item_list.txt": "13b1c0d75b07b8cea9413f40042f476f",
            "user_list.txt": "f83ec6f2cd974ba6470e8808830cc144",
        },
        "md5: RecZoo, Gowalla_m1; train and test also DeepHypergraph",
        "https://snap.stanford.edu/data/loc-gowalla.html",
        "E. Cho, S. A. Myers, J. Leskovec. 2011. Friendship and Mobility: User Movement in Location-Based Social Networks. "
        "KDD.",
    ),
    _lightgcn(
        "yelp2018",
        "Yelp 2018, the fixed train and test split of the LightGCN paper",
        Counts(31_668, 38_048, 1_561_406),
        {
            "train.txt": "1b8b5d22a227e01d6de002c53d32b4c4",
            "test.txt": "0d57d7399862c32152b045ec5d2698e7",
            "item_list.txt": "520fe559761ff2c654629201c807f353",
            "user_list.txt": "ae4f810cd6e827f10fc418753c7d92f9",
        },
        "md5: RecZoo, Yelp18_m1; train and test also DeepHypergraph",
        "https://www.yelp.com/dataset",
        "Yelp. 2018. Yelp Open Dataset. https://www.yelp.com/dataset",
    ),
    _lightgcn(
        "amazon-book",
        "Amazon books, the fixed train and test split of the LightGCN paper",
        Counts(52_643, 91_599, 2_984_108),
        {
            "train.txt": "c916ecac04ca72300a016228258b41ed",
            "test.txt": "30f8ccfea18d25007ba9fb9aba4e174d",
            "item_list.txt": "5b1125ef3bf4118a7988f1fd8ce52ef9",
            "user_list.txt": "132f8a5d6d35d5fdde1e0396488be235",
        },
        "md5: RecZoo, AmazonBooks_m1; train and test also DeepHypergraph",
        "https://cseweb.ucsd.edu/~jmcauley/datasets.html",
        "R. He, J. McAuley. 2016. Ups and Downs: Modeling the Visual Evolution of Fashion Trends with One-Class Collaborative "
        "Filtering. WWW.",
    ),
    PublicSet(
        "lastfm-2k",
        "Last.fm of HetRec 2011: artists and listening counts, names, tags",
        "hetrec-lastfm",
        (
            File(
                "hetrec2011-lastfm-2k.zip",
                "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip",
                ("sha256:6738f48195667ff03caaab4d32ca9a3133d8cc026b7c3cdaf6ce1010e913c59c",),
                "sha256: OmniRec, loader HetrecLastFM",
            ),
        ),
        "https://grouplens.org/datasets/hetrec-2011/",
        Licence(
            "The users' names and other personal information in Last.fm are not provided in the dataset.\n"
            "The data contained in hetrec2011-lastfm-2k.zip is made available for non-commercial use.\n"
            "Those interested in using the data in a commercial context should contact Last.fm staff:\n"
            "http://www.lastfm.com/about/contact",
            "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-readme.txt",
        ),
        "Last.fm website, http://www.lastfm.com. Ivan Cantador, Peter Brusilovsky, Tsvi Kuflik. 2011. Second Workshop on "
        "Information Heterogeneity and Fusion in Recommender Systems (HetRec 2011). RecSys.",
        Counts(1_892, 17_632, 92_834),
        64 * MEBIBYTE,
    ),
    PublicSet(
        "msd",
        "Million Song Dataset, the Echo Nest taste profile: songs and play counts",
        "triplets",
        (
            File(
                "train_triplets.txt.zip", "https://millionsongdataset.com/sites/default/files/challenge/train_triplets.txt.zip"
            ),
        ),
        "http://millionsongdataset.com/tasteprofile/",
        Licence(
            "No terms travel with the file. The Million Song Dataset says that most of its data is licensed as the API of The "
            "Echo Nest was, and was made for research. Read its page; use the data for research, and ask before any other use.",
            "http://millionsongdataset.com/tasteprofile/",
        ),
        "Thierry Bertin-Mahieux, Daniel P. W. Ellis, Brian Whitman, Paul Lamere. 2011. The Million Song Dataset. ISMIR. "
        "The Echo Nest Taste Profile Subset, http://millionsongdataset.com/tasteprofile/",
        Counts(1_019_318, 384_546, 48_373_586),
        4_096 * MEBIBYTE,
    ),
)

CATALOGUE: dict[str, PublicSet] = {each.name: each for each in _SETS}
