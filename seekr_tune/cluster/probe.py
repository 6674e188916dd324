"""Whether Ray works here: a private session, and one task in it."""

from __future__ import annotations

import platform

from seekr_tune.cluster.session import ray_session

_PATIENCE_SECONDS = 300.0
"""A busy machine starts a worker in a minute or two; one that hangs is told from it late, and surely."""


def ray_works() -> str:
    """Start a private session and let a worker answer; what was found.

    Raises:
        StudyError: Ray does not start on this machine.
    """
    with ray_session():
        import ray

        @ray.remote(num_cpus=0)
        def answer() -> str:
            return platform.python_version()

        version = ray.get(answer.remote(), timeout=_PATIENCE_SECONDS)
        found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        resources = {name: amount for name, amount in found.items() if name in ("CPU", "GPU")}
    counted = ", ".join(f"{amount:g} {name}" for name, amount in sorted(resources.items()))
    return f"a private session starts, offers {counted}, and a worker answers (Python {version})"
