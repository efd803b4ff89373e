"""Refuse Captum's Lime and KernelShap, and say what to call instead."""

from cam.errors import MethodError


class Lime:
    """Refuse Captum's Lime, whose draws and fit are not this library's.

    Raises:
        MethodError: Always.
    """

    def __init__(self, *_: object, **__: object) -> None:
        raise MethodError(
            "Captum's Lime draws other samples and fits scikit-learn's Lasso to them, so its "
            "numbers are not this library's; call cam.attribute(model, inputs, 'lime')"
        )


class KernelShap:
    """Refuse Captum's KernelShap, whose draws are not this library's.

    Raises:
        MethodError: Always.
    """

    def __init__(self, *_: object, **__: object) -> None:
        raise MethodError(
            "Captum's KernelShap draws other coalitions, of other features by default, so its "
            "numbers are not this library's; call cam.attribute(model, inputs, 'kernelshap')"
        )
