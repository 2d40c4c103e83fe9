"""Build the instances of Melbourne's central business district: deployment and offloading.

    python instances/build_melbourne.py DATA_FOLDER [--problem deployment|offloading] [--out instances]

DATA_FOLDER holds four public files, which are not part of this repository (README.md beside this file says
where they come from):

    eua-melbourne-cbd-sites.csv   125 base-station sites (SITE_ID, LATITUDE, LONGITUDE, ...)
    eua-melbourne-cbd-users.csv   816 positions of users (Latitude, Longitude)
    azure-llm-2023-conv.csv       an hour of requests to a chat service (TIMESTAMP, ContextTokens, ...)
    azure-llm-2023-code.csv       the same hour of a code service (the same columns)

The result depends on these files, `models.json` and this script only. What is real: the positions of the
sites, those of the users as the EUA data set gives them (it placed them itself), the number of requests and
the time of each, whether it asks for code, and what `models.json` gives a source for. The rest is assumed,
by the rules below.

Offloading needs the first two only.

Steps of the deployment instances
---------------------------------
1. Servers. E of the 125 sites, one after another, each time the site that shortens most the sum over users
   of the distance to the nearest chosen site (greedy k-median; a tie goes to the first site of the file).
   Distances are equirectangular, in metres. Each user belongs to the nearest chosen site.
2. Requests. Both traces are merged in time and every k-th request is kept (k = 8, 5, 2: an eighth, a fifth,
   half of the real requests). The hour starts with the first request of either trace and is cut into T
   equal slots; the traces end about 58.5 minutes in, so the last slot is partly empty.
3. What a request asks for. A request of the code trace asks for a code model. A request of the chat trace
   keeps its time, and its kind (chat, image, audio, video) is drawn from shares that move linearly over the
   hour (`KIND_SHARES`). So the load of every kind has the time shape of a real trace times an assumed
   share. Within a kind, the model is drawn by a Zipf law over a ranking; the ranking is turned by one place
   from district to district (servers sorted from west to east in three groups), and over the hour it slides
   on by three places.
4. Who asks. Each request comes from one of the 816 users, all equally likely, and arrives at the user's
   server. Draws are doubles of numpy's PCG64 with a fixed seed, inverted through cumulative shares: three a
   request, used or not.
5. Servers' hardware. Three classes (`CLASSES`): the fifth of the servers with most users gets the large
   one, the next two fifths the middle one, the rest the small one. A server's GPU-seconds a slot are slot
   length x speed x 0.8 (head-room in place of a queue), its joules slot length x power budget.
6. Delays. A peer adds a fixed hand-over (the session and its context move) and a delay by the kilometre;
   sites further apart than 600 m do not share. The cloud's whole delay is a wide-area round trip + the
   result's transfer + generation on a faster GPU, stretched by the waiting of a queue at the cloud's
   utilisation.
7. Costs. A second of delay weighs 1, a second of switching 0.5. The weights of storage and GPU memory are a
   price per hour of a full server, divided over slots.

Steps of the offloading instances
---------------------------------
1. Users: every k-th of the 816 positions (k = 14, 3, 1), one task each. Sites: greedy k-median over those
   users, as above; the large instance has all 125.
2. Rates. A site further away than 400 m is out of reach. Otherwise the path loss is 128.1 + 37.6 log10(km)
   dB (the macro-cell model of 3GPP TR 36.814, not below 10 m), and the rate is Shannon's over a bandwidth of
   5 MHz each way for each user, with -174 dBm/Hz of noise, 0.2 W from the user and 1 W from the site.
3. Models: text-to-image models of the catalogue that take tens of steps, drawn by a Zipf law. Their workload
   and quality are assumed there. Steps: 5, 10, ..., 50.
4. Servers: the three classes, by the number of users whose nearest site it is; speed x 100 Gcycle/s (what
   the catalogue calls the reference GPU). A site hosts models in the order of popularity, turned on by one
   place from site to site, as long as its GPU memory holds them.
5. Devices, deadlines, batteries, weights, sizes of prompts and pictures and penalties are drawn evenly from
   assumed ranges (`USER_RANGES`), one device in five cannot generate at all; every task may be rejected.
   Draws are doubles of numpy's PCG64 with a fixed seed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent

# Instances: servers, slots, thinning of the traces and models in order of popularity at the start of the
# hour.
SIZES = {
    "melbourne-cbd-small": {
        "servers": 5,
        "slots": 12,
        "keep_every": 8,
        "seed": 1,
        "models": {
            "chat": ["Meta-Llama-3-8B-Instruct", "Phi-3-mini-4k-instruct"],
            "code": ["CodeLlama-7b-Instruct"],
            "image": ["stable-diffusion-xl-base-1.0", "stable-diffusion-v1-5", "SSD-1B", "kandinsky-2-2"],
            "audio": ["musicgen-medium"],
        },
    },
    "melbourne-cbd-medium": {
        "servers": 10,
        "slots": 24,
        "keep_every": 5,
        "seed": 2,
        "models": {
            "chat": [
                "Meta-Llama-3-8B-Instruct",
                "Phi-3-mini-4k-instruct",
                "Mistral-7B-Instruct-v0.2",
                "gemma-1.1-2b-it",
            ],
            "code": ["CodeLlama-7b-Instruct", "starcoder2-3b"],
            "image": [
                "stable-diffusion-xl-base-1.0",
                "stable-diffusion-v1-5",
                "stable-diffusion-3-medium",
                "sd15-controlnet-canny",
                "SSD-1B",
                "kandinsky-2-2",
            ],
            "audio": ["musicgen-medium", "bark"],
        },
    },
    "melbourne-cbd-large": {
        "servers": 25,
        "slots": 36,
        "keep_every": 2,
        "seed": 3,
        "models": {
            "chat": [
                "Meta-Llama-3-8B-Instruct",
                "Phi-3-mini-4k-instruct",
                "Mistral-7B-Instruct-v0.2",
                "gemma-1.1-2b-it",
                "Llama-2-7b-chat",
                "Llama-2-13b-chat",
            ],
            "code": ["Qwen2.5-Coder-7B-Instruct", "CodeLlama-7b-Instruct", "starcoder2-3b"],
            "image": [
                "stable-diffusion-xl-base-1.0",
                "stable-diffusion-v1-5",
                "FLUX.1-schnell",
                "stable-diffusion-3-medium",
                "sd15-controlnet-canny",
                "SSD-1B",
                "sdxl-turbo",
                "stable-diffusion-2-1",
                "LCM_Dreamshaper_v7",
                "kandinsky-2-2",
                "PixArt-XL-2-1024-MS",
            ],
            "audio": ["musicgen-medium", "bark", "musicgen-small"],
            "video": ["stable-video-diffusion-img2vid-xt"],
        },
    },
}

# Shares of the kinds among the requests of the chat trace, at the start and at the end of the hour. Kinds
# that an instance lacks are left out and the rest rescaled.
KIND_SHARES = {"chat": (0.80, 0.20), "image": (0.15, 0.60), "audio": (0.045, 0.195), "video": (0.005, 0.005)}
ZIPF_EXPONENT = 1.6
DRIFT_PLACES = 3
DISTRICTS = 3

# Hardware by class. `speed` is in reference GPUs (models.json says which), `power_w` the site's budget for
# generation and loading, `storage_gb` the part of the site's disk and `cloud_gbps` the part of its backhaul
# that models may use.
CLASSES = {
    "large": {
        "storage_gb": 34,
        "gpu_memory_gb": 48,
        "cloud_gbps": 8,
        "io_gb_per_s": 5,
        "speed": 1.5,
        "power_w": 260,
    },
    "middle": {
        "storage_gb": 24,
        "gpu_memory_gb": 32,
        "cloud_gbps": 4,
        "io_gb_per_s": 3,
        "speed": 1.0,
        "power_w": 170,
    },
    "small": {
        "storage_gb": 17,
        "gpu_memory_gb": 24,
        "cloud_gbps": 2,
        "io_gb_per_s": 2,
        "speed": 0.6,
        "power_w": 100,
    },
}
HEAD_ROOM = 0.8  # share of a GPU's time that may be planned for

PEER_HANDOVER_S, PEER_S_PER_KM, PEER_REACH_M = 1.5, 1.5, 600.0
WAN_ROUND_TRIP_S, WAN_MBPS, CLOUD_SPEED, CLOUD_UTILISATION = 0.2, 100.0, 1.5, 0.6
RESULT_MBIT = {"chat": 0.0, "code": 0.0, "image": 16.0, "audio": 8.0, "video": 32.0}

# Weights: a second of delay counts 1, a second of fetching or loading half, because nobody need wait for
# it; a full disk and a full GPU memory cost this much an hour and server.
WEIGHT_DELAY, WEIGHT_SWITCHING = 1.0, 0.5
STORAGE_PER_HOUR, GPU_MEMORY_PER_HOUR = 60.0, 240.0

# Offloading: every `every`-th user, this many sites.
OFFLOADING_SIZES = {
    "melbourne-cbd-small": {"every": 14, "servers": 10, "seed": 1},
    "melbourne-cbd-medium": {"every": 3, "servers": 40, "seed": 2},
    "melbourne-cbd-large": {"every": 1, "servers": 125, "seed": 3},
}
OFFLOADING_MODELS = [
    "stable-diffusion-xl-base-1.0",
    "stable-diffusion-v1-5",
    "stable-diffusion-3-medium",
    "SSD-1B",
    "PixArt-XL-2-1024-MS",
    "kandinsky-2-2",
    "stable-diffusion-2-1",
    "sd15-controlnet-canny",
]
OFFLOADING_ZIPF = 0.8
OFFLOADING_STEPS = {"min": 5, "max": 50, "stride": 5}
OFFLOADING_WEIGHTS = {"quality": 10, "delay": 0.2, "energy": 0.01}
GCYCLES_PER_S = 100.0  # of a server of speed 1
REACH_M, NEAREST_M = 400.0, 10.0
PATH_LOSS_DB, PATH_LOSS_DB_PER_DECADE = 128.1, 37.6
BANDWIDTH_MHZ, NOISE_DBM_PER_HZ = 5.0, -174.0
USER_POWER_W, SITE_POWER_W = 0.2, 1.0
USER_RANGES = {  # low, high, decimals
    "weight": (0.5, 1.5, 2),
    "input_mbit": (0.5, 12.0, 2),  # a prompt, or a picture to start from
    "output_mbit": (4.0, 24.0, 2),
    "max_delay_s": (5.0, 20.0, 1),
    "battery_j": (10.0, 60.0, 1),
    "max_ghz": (2.0, 8.0, 2),
    "kappa": (0.02, 0.06, 4),
    "rejection_penalty": (6.0, 12.0, 2),
}
DEVICE_SHARE = 0.8

OFFLOADING_SOURCE = (
    "Derived work. Sites and users: EUA data sets, Swinburne University of Technology, MIT licence, "
    "Copyright (c) 2018 Swin Edge (github.com/swinedge/eua-dataset; Lai et al., ICSOC 2018; He et al., "
    "IEEE TPDS 31(3), 2020); the site register is the Australian Communications and Media Authority's. "
    "Models: instances/models.json, whose workload and quality are assumed. Real: positions (those of users as "
    "the data set placed them), the models' GPU memory where models.json gives a source. Rates: Shannon's over "
    "5 MHz each way, path loss 128.1 + 37.6 log10(km) dB (3GPP TR 36.814's macro-cell formula; at least 10 m), "
    "0.2 W up, 1 W down, noise -174 dBm/Hz, 0 beyond 400 m. Assumed: bandwidth, powers, noise, reach, hardware, "
    "devices, deadlines, batteries, sizes, penalties, weights, which model a user asks for. Built by "
    "instances/build_melbourne.py."
)

SOURCE = (
    "Derived work. Sites and users: EUA data sets, Swinburne University of Technology, MIT licence, "
    "Copyright (c) 2018 Swin Edge (github.com/swinedge/eua-dataset; Lai et al., ICSOC 2018; He et al., "
    "IEEE TPDS 31(3), 2020); the site register is the Australian Communications and Media Authority's. "
    "Requests: Azure LLM inference trace 2023, Azure Public Dataset, Microsoft, CC BY 4.0 "
    "(github.com/Azure/AzurePublicDataset; Patel et al., Splitwise, ISCA 2024), thinned, binned and "
    "assigned to sites. Models: instances/models.json, field by field. Real: positions (those of users as "
    "the data set placed them), the number and times of the requests, code or not, and what models.json "
    "gives a source for. Assumed: which model a request asks for other than code or not, which user sends "
    "it, hardware, delays between servers and to the cloud, power, weights. Built by "
    "instances/build_melbourne.py."
)


# ----------------------------------------------------------------------------------------------------------
# Readers and geometry: nothing here knows of deployment.


def read_sites(folder):
    """Sites in the file's order: names `site-<SITE_ID>`, and degrees (sites, 2), latitude first."""
    table = pd.read_csv(folder / "eua-melbourne-cbd-sites.csv")
    return [f"site-{number}" for number in table["SITE_ID"]], table[["LATITUDE", "LONGITUDE"]].to_numpy(float)


def read_users(folder):
    """Positions of the users: degrees (users, 2), latitude first."""
    return pd.read_csv(folder / "eua-melbourne-cbd-users.csv")[["Latitude", "Longitude"]].to_numpy(float)


def read_requests(folder):
    """Both traces merged in time: columns `seconds` since the first request of either and `code` (bool)."""
    parts = []
    for trace in ("conv", "code"):
        table = pd.read_csv(folder / f"azure-llm-2023-{trace}.csv", parse_dates=["TIMESTAMP"])
        parts.append(pd.DataFrame({"time": table["TIMESTAMP"], "code": trace == "code"}))
    # A stable sort keeps the order of the files where two times are equal.
    merged = pd.concat(parts).sort_values("time", kind="stable").reset_index(drop=True)
    merged["seconds"] = (merged["time"] - merged["time"].iloc[0]).dt.total_seconds()
    return merged[["seconds", "code"]]


def read_catalogue(path=HERE / "models.json"):
    """Models of the catalogue by name, as they are in the file."""
    with open(path, encoding="utf-8") as file:
        return {model["name"]: model for model in json.load(file)["models"]}


def distances_m(here, there):
    """Distances (len(here), len(there)) in metres between positions in degrees, equirectangular."""
    radius = 6_371_000.0
    mean_latitude = np.radians(here[:, None, 0] + there[None, :, 0]) / 2
    north = np.radians(here[:, None, 0] - there[None, :, 0])
    east = np.radians(here[:, None, 1] - there[None, :, 1]) * np.cos(mean_latitude)
    return radius * np.hypot(north, east)


def choose_sites(to_users, count):
    """Greedy k-median: indices of `count` sites, in the order chosen, from the distances (sites, users)."""
    nearest, chosen = np.full(to_users.shape[1], np.inf), []
    for _ in range(count):
        # Rounded to millimetres, so that a tie is a tie on every machine; argmin takes the first.
        total = np.round(np.minimum(to_users, nearest).sum(axis=1), 3)
        total[chosen] = np.inf
        chosen.append(int(total.argmin()))
        nearest = np.minimum(nearest, to_users[chosen[-1]])
    return chosen


def model_profile(model):
    """Fields of a model that deployment reads; the catalogue's own ones go in front of the source."""
    sizes = ("storage_gb", "gpu_memory_gb", "warmup_s", "load_j")
    fields = ("name", *sizes, "nominal_steps", "latency", "energy")
    source = f"{model['task']}; {model['repository']} on huggingface.co. {model['source']}"
    return {field: model[field] for field in fields} | {"source": source}


def generation_s(model):
    """Seconds of one ordinary generation on the reference GPU."""
    return model["latency"]["base_s"] + model["nominal_steps"] * model["latency"]["per_step_s"]


# ----------------------------------------------------------------------------------------------------------
# Demand.


def pick(shares, value):
    """Index that a uniform `value` in [0, 1) falls on in a list of shares that need not sum to 1."""
    cumulative = np.cumsum(shares)
    return int(np.searchsorted(cumulative[:-1], value * cumulative[-1], side="right"))


def popularity(count, turn, progress):
    """Shares of a kind's models: Zipf over a ranking turned by `turn` places.

    The ranking slides on by DRIFT_PLACES as `progress` goes from 0 to 1.
    """
    zipf = np.arange(1, count + 1, dtype=float) ** -ZIPF_EXPONENT
    places, part = divmod(DRIFT_PLACES * progress, 1)
    turn += int(places)
    return (1 - part) * np.roll(zipf, turn) + part * np.roll(zipf, turn + 1)


def districts(positions):
    """District of each server: groups of equal size from west to east."""
    order = np.argsort(positions[:, 1], kind="stable")
    district = np.empty(len(order), dtype=int)
    district[order] = np.arange(len(order)) * DISTRICTS // len(order)
    return district


def count_arrivals(requests, server_of_user, district, kinds, slots, slot_s, seed):
    """Integer arrivals (slots, servers, models); models are numbered through the kinds in order."""
    first = dict(zip(kinds, np.cumsum([0, *map(len, kinds.values())]), strict=False))
    chat_kinds = [kind for kind in kinds if kind in KIND_SHARES]
    arrivals = np.zeros((slots, district.size, sum(map(len, kinds.values()))), dtype=int)
    draws = np.random.Generator(np.random.PCG64(seed)).random((len(requests), 3))
    for seconds, code, (draw_user, draw_kind, draw_model) in zip(
        requests["seconds"], requests["code"], draws, strict=True
    ):
        progress = seconds / (slots * slot_s)
        server = server_of_user[int(draw_user * server_of_user.size)]
        shares = [(1 - progress) * KIND_SHARES[kind][0] + progress * KIND_SHARES[kind][1] for kind in chat_kinds]
        kind = "code" if code else chat_kinds[pick(shares, draw_kind)]
        model = pick(popularity(len(kinds[kind]), district[server], progress), draw_model)
        arrivals[int(seconds // slot_s), server, first[kind] + model] += 1
    return arrivals


# ----------------------------------------------------------------------------------------------------------
# Servers and delays.


def hardware(users_of_server):
    """Class of each server: the busiest fifth large, the next two fifths middle, the rest small."""
    count = len(users_of_server)
    classes = [""] * count
    for rank, server in enumerate(np.argsort(-np.asarray(users_of_server), kind="stable")):
        classes[server] = "large" if rank < count / 5 else "middle" if rank < 3 * count / 5 else "small"
    return classes


def server_fields(name, hardware_class, slot_s):
    """Fields of one server of the instance."""
    kit = CLASSES[hardware_class]
    fields = {key: kit[key] for key in ("storage_gb", "gpu_memory_gb", "cloud_gbps", "io_gb_per_s")}
    gpu_s, energy_j = HEAD_ROOM * kit["speed"] * slot_s, kit["power_w"] * slot_s
    return {"name": name} | fields | {"gpu_s": round(gpu_s, 3), "energy_j": round(energy_j, 3)}


def peer_delays(between_m):
    """Extra seconds of serving at a peer; None beyond the reach."""
    delay = np.round(PEER_HANDOVER_S + PEER_S_PER_KM * between_m / 1000, 3)
    reached = np.where(between_m <= PEER_REACH_M, delay, np.nan)
    np.fill_diagonal(reached, 0)
    return [[None if np.isnan(value) else value for value in row] for row in reached.tolist()]


def cloud_delay(model, kind):
    """Whole delay of a request in the cloud: service / (1 - utilisation) is the time in an M/M/1 queue."""
    in_cloud = generation_s(model) / CLOUD_SPEED / (1 - CLOUD_UTILISATION)
    return round(WAN_ROUND_TRIP_S + RESULT_MBIT[kind] / WAN_MBPS + in_cloud, 3)


# ----------------------------------------------------------------------------------------------------------
# The instance and its file.


def build_deployment(name, size, sites, users, requests, catalogue):
    """Deployment instance `name`, a dictionary in the order of the file format."""
    site_names, site_positions = sites
    slots, slot_s = size["slots"], 3600 / size["slots"]
    kept = requests.iloc[:: size["keep_every"]]
    chosen = choose_sites(distances_m(site_positions, users), size["servers"])
    positions = site_positions[chosen]
    server_of_user = distances_m(users, positions).argmin(axis=1)
    users_of_server = np.bincount(server_of_user, minlength=len(chosen))
    classes = hardware(users_of_server)
    kind_of = {model: kind for kind, models in size["models"].items() for model in models}
    arrivals = count_arrivals(kept, server_of_user, districts(positions), size["models"], slots, slot_s, size["seed"])
    assert arrivals.sum() == len(kept)

    description = (
        f"{len(chosen)} edge servers at real base-station sites of Melbourne's central business district, "
        f"{len(kind_of)} generative models, one hour in {slots} slots of {slot_s:g} s; {len(kept)} requests: "
        f"one in {size['keep_every']} of the {len(requests)} requests that two production services got in an "
        "hour of 16 November 2023. Servers by class (large, middle, small): "
        f"{', '.join(str(classes.count(kit)) for kit in CLASSES)}."
    )
    return {
        "format": "aigc-opt/instance",
        "version": 1,
        "problem": "deployment",
        "name": name,
        "description": description,
        "source": SOURCE,
        "slot_s": slot_s,
        "models": [model_profile(catalogue[model]) for model in kind_of],
        "servers": [server_fields(site_names[site], kit, slot_s) for site, kit in zip(chosen, classes, strict=True)],
        "cloud_delay_s": [cloud_delay(catalogue[model], kind) for model, kind in kind_of.items()],
        "peer_delay_s": peer_delays(distances_m(positions, positions)),
        "arrivals": arrivals.tolist(),
        "weights": {
            "delay": WEIGHT_DELAY,
            "switching": WEIGHT_SWITCHING,
            "storage": round(STORAGE_PER_HOUR / slots, 6),
            "gpu_memory": round(GPU_MEMORY_PER_HOUR / slots, 6),
        },
    }


def rates_mbps(metres, power_w):
    """Shannon rates over the assumed path loss; 0 out of reach."""
    km = np.maximum(metres, NEAREST_M) / 1000
    loss_db = PATH_LOSS_DB + PATH_LOSS_DB_PER_DECADE * np.log10(km)
    noise_dbm = NOISE_DBM_PER_HZ + 10 * np.log10(BANDWIDTH_MHZ * 1e6)
    snr = 10 ** ((10 * np.log10(power_w * 1000) - loss_db - noise_dbm) / 10)
    return np.where(metres <= REACH_M, np.round(BANDWIDTH_MHZ * np.log2(1 + snr), 1), 0.0)


def hosted(models, turn, memory_gb, catalogue):
    """Models that fit a site's GPU memory, taken in the order of popularity turned by `turn` places."""
    chosen = []
    for model in np.roll(models, -turn).tolist():
        if catalogue[model]["gpu_memory_gb"] <= memory_gb:
            chosen.append(model)
            memory_gb -= catalogue[model]["gpu_memory_gb"]
    return [model for model in models if model in chosen]


def build_offloading(name, size, sites, positions, catalogue):
    """Offloading instance `name`, a dictionary in the order of the file format."""
    site_names, site_positions = sites
    users = positions[:: size["every"]]
    chosen = choose_sites(distances_m(site_positions, users), size["servers"])
    metres = distances_m(users, site_positions[chosen])
    up, down = rates_mbps(metres, USER_POWER_W), rates_mbps(metres, SITE_POWER_W)
    classes = hardware(np.bincount(metres.argmin(axis=1), minlength=len(chosen)))
    generator = np.random.Generator(np.random.PCG64(size["seed"]))
    draws = generator.random((len(users), len(USER_RANGES) + 2))
    zipf = np.arange(1, len(OFFLOADING_MODELS) + 1, dtype=float) ** -OFFLOADING_ZIPF
    people = []
    for n, row in enumerate(draws):
        own = {
            key: round(low + (high - low) * value, decimals)
            for value, (key, (low, high, decimals)) in zip(row, USER_RANGES.items(), strict=False)
        }
        device = {"max_ghz": own["max_ghz"], "kappa": own["kappa"]} if row[-1] < DEVICE_SHARE else None
        people.append(
            {
                "name": f"user-{n * size['every'] + 1}",
                "model": OFFLOADING_MODELS[pick(zipf, row[-2])],
                "weight": own["weight"],
                "input_mbit": own["input_mbit"],
                "output_mbit": own["output_mbit"],
                "max_delay_s": own["max_delay_s"],
                "battery_j": own["battery_j"],
                "transmit_power_w": USER_POWER_W,
                "uplink_mbps": plain_rates(up[n]),
                "downlink_mbps": plain_rates(down[n]),
                "device": device,
                "rejection_penalty": own["rejection_penalty"],
            }
        )
    machines = [
        {
            "name": site_names[site],
            "ghz": GCYCLES_PER_S * CLASSES[kit]["speed"],
            "hosts": hosted(OFFLOADING_MODELS, turn, CLASSES[kit]["gpu_memory_gb"], catalogue),
        }
        for turn, (site, kit) in enumerate(zip(chosen, classes, strict=True))
    ]
    description = (
        f"{len(users)} users and {len(machines)} edge servers in Melbourne's central business district, at real "
        f"positions; a picture for each user. Each user reaches {(up > 0).sum(axis=1).mean():.1f} servers on average."
    )
    return {
        "format": "aigc-opt/instance",
        "version": 1,
        "problem": "offloading",
        "name": name,
        "description": description,
        "source": OFFLOADING_SOURCE,
        "models": [offloading_profile(catalogue[model]) for model in OFFLOADING_MODELS],
        "users": people,
        "servers": machines,
        "steps": OFFLOADING_STEPS,
        "weights": OFFLOADING_WEIGHTS,
    }


def plain_rates(rates):
    """Rates for the file: 0 without a decimal point, because most are."""
    return [int(rate) if rate == int(rate) else rate for rate in rates.tolist()]


def offloading_profile(model):
    """Fields of a model that offloading reads."""
    source = f"{model['task']}; {model['repository']} on huggingface.co. workload, quality: assumed, see models.json."
    return {field: model[field] for field in ("name", "workload", "quality")} | {"source": source}


def layout(value, indent=0):
    """JSON text with one line for each innermost array or object: small files, readable differences."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    if not any(isinstance(item, (dict, list)) for item in items):
        return json.dumps(value)
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        body = [f"{pad}{json.dumps(key)}: {layout(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(body) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + layout(item, indent + 1) for item in value) + "\n" + " " * indent + "]"


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the instances of Melbourne's central business district.")
    parser.add_argument("data", type=Path, metavar="DATA_FOLDER", help="folder with the CSV files")
    parser.add_argument("--problem", choices=("deployment", "offloading"), help="only this one (default: both)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder with a folder for each problem (default: here)")
    options = parser.parse_args()
    sites, users = read_sites(options.data), read_users(options.data)
    catalogue = read_catalogue()
    if options.problem != "offloading":
        requests = read_requests(options.data)
        for name, size in SIZES.items():
            write(options.out / "deployment", build_deployment(name, size, sites, users, requests, catalogue))
    if options.problem != "deployment":
        for name, size in OFFLOADING_SIZES.items():
            write(options.out / "offloading", build_offloading(name, size, sites, users, catalogue))
        write_positions(options.out / "offloading" / "melbourne-cbd-positions.csv", sites, users)


def write_positions(path, sites, users):
    """Write where sites and users are, for maps: instances hold rates only."""
    site_names, site_positions = sites
    names = [*site_names, *(f"user-{n + 1}" for n in range(len(users)))]
    degrees = [*site_positions.tolist(), *users.tolist()]
    rows = (f"{name},{at[0]:.6f},{at[1]:.6f}" for name, at in zip(names, degrees, strict=True))
    path.write_text("\n".join(["name,latitude,longitude", *rows, ""]), encoding="utf-8", newline="\n")
    print(f"{path}: {path.stat().st_size} bytes")


def write(folder, instance):
    """Write an instance under its name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{instance['name']}.json"
    path.write_text(layout(instance) + "\n", encoding="utf-8", newline="\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
