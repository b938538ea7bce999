from __future__ import annotations

from gpumodels.support.known_classes import all_subclasses


class Root:
    pass


class Left(Root):
    pass


class Right(Root):
    pass


class Below(Left, Right):
    pass


def test_a_class_is_found_with_all_below_it_and_none_above_or_beside() -> None:
    assert all_subclasses(Root) == {Root, Left, Right, Below}
    assert all_subclasses(Right) == {Right, Below}
    assert all_subclasses(Below) == {Below}


def test_a_metaclass_of_the_hosts_is_not_asked() -> None:
    asked: list[str] = []

    class Nosy(type):
        def __subclasses__(cls) -> list[type]:
            asked.append("__subclasses__")
            return []

        def __getattribute__(cls, name: str) -> object:
            asked.append(name)
            return super().__getattribute__(name)

    class Base(metaclass=Nosy):
        pass

    class Derived(Base):
        pass

    asked.clear()
    found = all_subclasses(Base)
    assert asked == []
    assert found == {Base, Derived}


def test_a_class_that_its_module_let_go_of_is_not_kept_alive_by_having_been_found() -> None:
    import gc

    type("Dropped", (Right,), {})
    all_subclasses(Root)
    gc.collect()
    assert all_subclasses(Root) == {Root, Left, Right, Below}
