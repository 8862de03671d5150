"""Which network is built, with which weights and which head; a head that cannot stand is refused here."""

from __future__ import annotations

from snellen.core.errors import UsageError
from snellen.modeling.architectures import LISTED, BackboneFacts, foresee_map_shape
from snellen.modeling.blocks import follow_head
from snellen.modeling.weights import PACKAGES
from snellen.planning.ledger import Ledger
from snellen.planning.plan_pixels import DEFAULT_BACKBONE, name_backbone
from snellen.records.layers import BackboneLayer, BatchNorm, GlobalAvgPool, HeadLayer, takes_map
from snellen.records.plan import How, ModelPlan, PreprocessPlan
from snellen.records.recipe import ModelWish, Normalize

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_LAYERS_EXAMPLE = '[{type = "conv", channels = 32}, {type = "batch_norm"}, {type = "relu"}, {type = "max_pool"}]'

Values = tuple[float, ...]


def choose_backbone(wish: ModelWish, ledger: Ledger, *, has_offline_weights: bool) -> str:
    """The backbone's name: of timm, or `layers`."""
    where = "its installed weight package" if has_offline_weights else "timm's download"
    name = name_backbone(wish)
    reason = (
        "model.layers lists its blocks"
        if name != DEFAULT_BACKBONE
        else f"the strongest small network whose ImageNet weights come from {where}; no layer of it is slow on a CPU"
    )
    return ledger.settle("model.backbone", wish.backbone, (name, "rule", reason))


def plan_model(
    wish: ModelWish,
    ledger: Ledger,
    backbone: tuple[str, BackboneFacts],
    preprocess: PreprocessPlan,
    n_classes: int,
    *,
    has_offline_weights: bool,
) -> ModelPlan:
    """The network. Raises UsageError that names the layer which cannot stand where it stands."""
    name, facts = backbone
    weights = ledger.settle("model.weights", wish.weights, _choose_weights(name, has_offline_weights))
    if name == LISTED:
        _require_listed(wish, weights)
    default_head = (GlobalAvgPool(), BatchNorm())
    head: tuple[HeadLayer, ...] = ledger.settle(
        "model.head",
        wish.head,
        (default_head, "fixed", "a regularised linear classifier: few patients rarely pay for more"),
    )
    arguments: dict[str, bool | int | float | str] = {}
    arguments = ledger.settle(
        "model.backbone_args", wish.backbone_args, (arguments, "fixed", "the network as timm builds it")
    )
    mean, std = _choose_normalisation(preprocess, facts, is_listed=name == LISTED)
    model = ModelPlan(
        backbone=name,
        backbone_args=arguments,
        layers=_settle_layers(wish, name, ledger),
        side_px=preprocess.size if name == LISTED else 0,
        weights=weights,
        mean=mean,
        std=std,
        head=head,
        n_classes=n_classes,
    )
    # the depth of pooled features is any that the network has: what follows them fits or does not
    needs_shape = takes_map(head) or name == LISTED
    follow_head(head, foresee_map_shape(model, preprocess) if needs_shape else (1, 1, 1), n_classes)
    return model


def _require_listed(wish: ModelWish, weights: str) -> None:
    if not wish.layers:
        raise UsageError(
            'model.backbone = "layers" needs its blocks in model.layers.', f"Example: layers = {_LAYERS_EXAMPLE}"
        )
    if wish.backbone_args:
        raise UsageError(
            "model.backbone_args are for networks of timm, and this one is listed in model.layers.", "Leave them out."
        )
    if weights in ("package", "timm"):
        raise UsageError(
            f'model.weights = "{weights}": nobody published weights of a network that a recipe lists.',
            'Leave model.weights out, set it to "none", or give a .safetensors file of such a network.',
        )


def _settle_layers(wish: ModelWish, name: str, ledger: Ledger) -> tuple[BackboneLayer, ...]:
    nothing: tuple[BackboneLayer, ...] = ()
    if name == LISTED:
        return ledger.settle("model.layers", wish.layers, (wish.layers, "rule", "the blocks of the network"))
    if wish.layers:
        raise UsageError(
            f'model.layers lists the blocks of a network, but model.backbone is "{name}", which has its own.',
            'Leave one of them out: --set model.backbone=layers, or --set "model.layers=[]"',
        )
    reason = "only the backbone layers has blocks of its own"
    return ledger.settle("model.layers", "auto", (nothing, "rule", reason))


def _choose_weights(backbone: str, has_offline_weights: bool) -> tuple[str, How, str]:  # private
    if backbone == LISTED:
        return "none", "rule", "nobody published weights of a network that a recipe lists: it begins by chance"
    if has_offline_weights and backbone in PACKAGES:
        return "package", "measured", f"a package with weights of {backbone} is installed"
    return "timm", "rule", "no installed package carries its weights, so timm downloads them"


def _choose_normalisation(plan: PreprocessPlan, facts: BackboneFacts, *, is_listed: bool) -> tuple[Values, Values]:
    """Mean and standard deviation; a listed network takes grey pictures in one channel, others three times."""
    mean, std = _choose_colours(plan.normalize, facts)
    if is_listed and plan.channels == 1:
        return (sum(mean) / len(mean),), (sum(std) / len(std),)
    return mean, std


def _choose_colours(normalize: Normalize, facts: BackboneFacts) -> tuple[Values, Values]:
    if normalize == "imagenet":
        return _IMAGENET
    if normalize == "unit":
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return facts.mean, facts.std
