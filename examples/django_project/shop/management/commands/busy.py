from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from shop.tasks import import_prices


class Command(BaseCommand):
    help = "Say how many imports run for a supplier."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("supplier")

    def handle(self, *args: Any, supplier: str, **options: Any) -> None:
        self.stdout.write(f"{import_prices.size(supplier)} imports run for {supplier}")
