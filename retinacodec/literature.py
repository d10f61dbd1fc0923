"""The publications behind each method."""

from __future__ import annotations

from collections.abc import Mapping

from retinacodec.field_literature import FIELD_METHODS
from retinacodec.reference import Reference

__all__ = ["METHODS", "Reference"]


_MELANDER = Reference(
    "melander2026",
    "Melander, Joshua Brendan and Alaoui, Zaki and Liu, Shenghua and Ganguli, Surya and "
    "Baccus, Stephen A.",
    "Causal Interpretation of Neural Network Computations with Contribution Decomposition",
    2026,
    "International Conference on Learning Representations",
    "inproceedings",
    "eprint = {2603.06557}; archiveprefix = {arXiv}",
)
_SUNDARARAJAN = Reference(
    "sundararajan2017",
    "Sundararajan, Mukund and Taly, Ankur and Yan, Qiqi",
    "Axiomatic Attribution for Deep Networks",
    2017,
    "International Conference on Machine Learning",
    "inproceedings",
    "pages = {3319--3328}",
)
_DHAMDHERE = Reference(
    "dhamdhere2019",
    "Dhamdhere, Kedar and Sundararajan, Mukund and Yan, Qiqi",
    "How Important Is a Neuron?",
    2019,
    "International Conference on Learning Representations",
    "inproceedings",
)
_SHRIKUMAR = Reference(
    "shrikumar2017",
    "Shrikumar, Avanti and Greenside, Peyton and Kundaje, Anshul",
    "Learning Important Features Through Propagating Activation Differences",
    2017,
    "International Conference on Machine Learning",
    "inproceedings",
    "pages = {3145--3153}",
)
_MAIRAL = Reference(
    "mairal2010",
    "Mairal, Julien and Bach, Francis and Ponce, Jean and Sapiro, Guillermo",
    "Online Learning for Matrix Factorization and Sparse Coding",
    2010,
    "Journal of Machine Learning Research",
    where="volume = {11}; pages = {19--60}",
)
_CICHOCKI = Reference(
    "cichocki2009",
    "Cichocki, Andrzej and Phan, Anh-Huy",
    "Fast Local Algorithms for Large Scale Nonnegative Matrix and Tensor Factorizations",
    2009,
    "IEICE Transactions on Fundamentals of Electronics, Communications and Computer Sciences",
    where="volume = {E92-A}; number = {3}; pages = {708--721}",
    doi="10.1587/transfun.E92.A.708",
)
_MCINTOSH = Reference(
    "mcintosh2016",
    "McIntosh, Lane T. and Maheswaranathan, Niru and Nayebi, Aran and Ganguli, Surya and "
    "Baccus, Stephen A.",
    "Deep Learning Models of the Retinal Response to Natural Scenes",
    2016,
    "Advances in Neural Information Processing Systems",
    "inproceedings",
    "volume = {29}; pages = {1369--1377}",
)
_MAHESWARANATHAN = Reference(
    "maheswaranathan2023",
    "Maheswaranathan, Niru and McIntosh, Lane T. and Tanaka, Hidenori and Grant, Satchel and "
    "Kastner, David B. and Melander, Joshua B. and Nayebi, Aran and Brezovec, Luke E. and "
    "Wang, Julia H. and Ganguli, Surya and Baccus, Stephen A.",
    "Interpreting the Retinal Neural Code for Natural Scenes: From Computations to Neurons",
    2023,
    "Neuron",
    where="volume = {111}; number = {17}; pages = {2742--2755}",
    doi="10.1016/j.neuron.2023.06.007",
)
_TANAKA = Reference(
    "tanaka2019",
    "Tanaka, Hidenori and Nayebi, Aran and Maheswaranathan, Niru and McIntosh, Lane and "
    "Baccus, Stephen A. and Ganguli, Surya",
    "From Deep Learning to Mechanistic Understanding in Neuroscience: The Structure of Retinal "
    "Prediction",
    2019,
    "Advances in Neural Information Processing Systems",
    "inproceedings",
    "volume = {32}",
)
_SCHOPPE = Reference(
    "schoppe2016",
    "Schoppe, Oliver and Harper, Nicol S. and Willmore, Ben D. B. and King, Andrew J. and "
    "Schnupp, Jan W. H.",
    "Measuring the Performance of Neural Models",
    2016,
    "Frontiers in Computational Neuroscience",
    where="volume = {10}; pages = {10}",
    doi="10.3389/fncom.2016.00010",
)
_KUNSCH = Reference(
    "kunsch1989",
    'K{\\"u}nsch, Hans R.',
    "The Jackknife and the Bootstrap for General Stationary Observations",
    1989,
    "The Annals of Statistics",
    where="volume = {17}; number = {3}; pages = {1217--1241}",
    doi="10.1214/aos/1176347265",
)
_OLVECZKY = Reference(
    "olveczky2003",
    '{\\"O}lveczky, Bence P. and Baccus, Stephen A. and Meister, Markus',
    "Segregation of Object and Background Motion in the Retina",
    2003,
    "Nature",
    where="volume = {423}; pages = {401--408}",
    doi="10.1038/nature01652",
)
_CLARK = Reference(
    "clark2013",
    "Clark, Damon A. and Benichou, Raphael and Meister, Markus and Azeredo da Silveira, Rava",
    "Dynamical Adaptation in Photoreceptors",
    2013,
    "PLoS Computational Biology",
    where="volume = {9}; number = {11}; pages = {e1003289}",
    doi="10.1371/journal.pcbi.1003289",
)
_ROUSSEEUW = Reference(
    "rousseeuw1987",
    "Rousseeuw, Peter J.",
    "Silhouettes: A Graphical Aid to the Interpretation and Validation of Cluster Analysis",
    1987,
    "Journal of Computational and Applied Mathematics",
    where="volume = {20}; pages = {53--65}",
    doi="10.1016/0377-0427(87)90125-7",
)
_MU = Reference(
    "mu2020",
    "Mu, Jesse and Andreas, Jacob",
    "Compositional Explanations of Neurons",
    2020,
    "Advances in Neural Information Processing Systems",
    "inproceedings",
    "volume = {33}",
)
_RUEBEL = Reference(
    "rubel2022",
    'R{\\"u}bel, Oliver and Tritt, Andrew and Ly, Ryan and Dichter, Benjamin K. and others',
    "The Neurodata Without Borders Ecosystem for Neurophysiological Data Science",
    2022,
    "eLife",
    where="volume = {11}; pages = {e78362}",
    doi="10.7554/eLife.78362",
)
_LEE = Reference(
    "lee1999",
    "Lee, Daniel D. and Seung, H. Sebastian",
    "Learning the Parts of Objects by Non-Negative Matrix Factorization",
    1999,
    "Nature",
    where="volume = {401}; pages = {788--791}",
    doi="10.1038/44565",
)
_LEE_UPDATES = Reference(
    "lee2001",
    "Lee, Daniel D. and Seung, H. Sebastian",
    "Algorithms for Non-Negative Matrix Factorization",
    2001,
    "Advances in Neural Information Processing Systems",
    "inproceedings",
    "volume = {13}; pages = {556--562}",
)
_DING = Reference(
    "ding2010",
    "Ding, Chris and Li, Tao and Jordan, Michael I.",
    "Convex and Semi-Nonnegative Matrix Factorizations",
    2010,
    "IEEE Transactions on Pattern Analysis and Machine Intelligence",
    where="volume = {32}; number = {1}; pages = {45--55}",
    doi="10.1109/TPAMI.2008.277",
)
_SHAFRAN = Reference(
    "shafran2025",
    "Shafran, Or and Geiger, Atticus and Geva, Mor",
    "Decomposing MLP Activations into Interpretable Features via Semi-Nonnegative Matrix "
    "Factorization",
    2025,
    "arXiv",
    where="eprint = {2506.10920}; archiveprefix = {arXiv}",
)
_HYVARINEN = Reference(
    "hyvarinen2000",
    'Hyv{\\"a}rinen, Aapo and Oja, Erkki',
    "Independent Component Analysis: Algorithms and Applications",
    2000,
    "Neural Networks",
    where="volume = {13}; pages = {411--430}",
    doi="10.1016/S0893-6080(00)00026-5",
)
_JOLLIFFE = Reference(
    "jolliffe2016",
    "Jolliffe, Ian T. and Cadima, Jorge",
    "Principal Component Analysis: A Review and Recent Developments",
    2016,
    "Philosophical Transactions of the Royal Society A",
    where="volume = {374}; pages = {20150202}",
    doi="10.1098/rsta.2015.0202",
)
_LLOYD = Reference(
    "lloyd1982",
    "Lloyd, Stuart P.",
    "Least Squares Quantization in PCM",
    1982,
    "IEEE Transactions on Information Theory",
    where="volume = {28}; number = {2}; pages = {129--137}",
    doi="10.1109/TIT.1982.1056489",
)
_DHILLON = Reference(
    "dhillon2001",
    "Dhillon, Inderjit S. and Modha, Dharmendra S.",
    "Concept Decompositions for Large Sparse Text Data Using Clustering",
    2001,
    "Machine Learning",
    where="volume = {42}; pages = {143--175}",
    doi="10.1023/A:1007612920971",
)
_PEDREGOSA = Reference(
    "pedregosa2011",
    'Pedregosa, Fabian and Varoquaux, Ga{\\"e}l and others',
    "Scikit-learn: Machine Learning in Python",
    2011,
    "Journal of Machine Learning Research",
    where="volume = {12}; pages = {2825--2830}",
)
_GAO = Reference(
    "gao2024",
    "Gao, Leo and Dupr{\\'e} la Tour, Tom and Tillman, Henk and Goh, Gabriel and Troll, Rajan and "
    "Radford, Alec and Sutskever, Ilya and Leike, Jan and Wu, Jeffrey",
    "Scaling and Evaluating Sparse Autoencoders",
    2024,
    "arXiv preprint",
    where="eprint = {2406.04093}; archiveprefix = {arXiv}",
)
_COSTA = Reference(
    "costa2025",
    "Costa, Val{\\'e}rie and Fel, Thomas and Lubana, Ekdeep Singh and Tolooshams, Bahareh and "
    "Ba, Demba",
    "From Flat to Hierarchical: Extracting Sparse Representations with Matching Pursuit",
    2025,
    "arXiv preprint",
    where="eprint = {2506.03093}; archiveprefix = {arXiv}",
)
_DUNEFSKY = Reference(
    "dunefsky2024",
    "Dunefsky, Jacob and Chlenski, Philippe and Nanda, Neel",
    "Transcoders Find Interpretable {LLM} Feature Circuits",
    2024,
    "Advances in Neural Information Processing Systems",
    "inproceedings",
    "eprint = {2406.11944}; archiveprefix = {arXiv}",
)
_GREGOR = Reference(
    "gregor2010",
    "Gregor, Karol and LeCun, Yann",
    "Learning Fast Approximations of Sparse Coding",
    2010,
    "International Conference on Machine Learning",
    "inproceedings",
    "pages = {399--406}",
)

METHODS: Mapping[str, tuple[Reference, ...]] = {
    "contributions": (_MELANDER,),
    "surprisal": (_MELANDER,),
    "find_modes": (_MELANDER,),
    "dynamic_fields": (_MELANDER, _MAHESWARANATHAN),
    "integrated_gradients": (_SUNDARARAJAN, _DHAMDHERE),
    "secant": (_SHRIKUMAR, _SUNDARARAJAN),
    "paper_sae": (_MELANDER,),
    "direct_pursuit": (_MAIRAL, _CICHOCKI),
    "top_ksae": (_GAO,),
    "matching_pursuit_sae": (_COSTA,),
    "transcoder": (_DUNEFSKY, _GAO),
    "distil": (_GREGOR,),
    "nmf": (_LEE, _LEE_UPDATES, _CICHOCKI, _PEDREGOSA),
    "semi_nmf": (_DING, _SHAFRAN),
    "dictionary_learning": (_MAIRAL, _PEDREGOSA),
    "pca": (_JOLLIFFE, _PEDREGOSA),
    "ica": (_HYVARINEN, _PEDREGOSA),
    "kmeans": (_LLOYD, _DHILLON, _PEDREGOSA),
    "deep_retina": (_MCINTOSH, _MAHESWARANATHAN),
    "cell_contributions": (_TANAKA,),
    "interneurons": (_MAHESWARANATHAN,),
    **FIELD_METHODS,
    "cc_norm": (_SCHOPPE,),
    "block_bootstrap": (_KUNSCH,),
    "circuit_retina": (_CLARK, _OLVECZKY),
    "object_motion": (_OLVECZKY,),
    "clusters": (_ROUSSEEUW,),
    "explain": (_MU,),
    "read_nwb": (_RUEBEL,),
}
"""Publications of each method; a class counts under its name, ``PaperSAE`` as ``paper_sae``."""
